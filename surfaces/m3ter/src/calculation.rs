//! The calculations of this surface, over the names that exist where they stand (1.3).
//!
//! A custom field is named by what carries it and its own name: `account.discount`. It exists where the organization
//! gives a default for it; an entity's own value comes before the default.

use crate::custom_fields::{CustomFields, Owner};
use crate::meter::{DataField, DerivedField};
use crate::wire::CustomValue;
use meterd_fault::Rule;
use meterd_formula::{Calculation, Formula, POWER_OPERATIONS, Type, Variable};

/// Most operations of all derived fields of a meter, which are evaluated for each measurement, and of a compound
/// aggregation.
pub(crate) const OPERATIONS_MAX: usize = 2_000;
/// Most aggregations that one compound aggregation names.
const AGGREGATIONS_MAX: usize = 100;
/// Before the code of an aggregation in the calculation of a compound.
const AGGREGATION: &str = "aggregation.";

/// Whose custom fields a derived field sees.
const OWNERS_OF_DERIVED: [Owner; 7] = [
    Owner::Organization,
    Owner::Meter,
    Owner::Product,
    Owner::Account,
    Owner::AccountPlan,
    Owner::Plan,
    Owner::PlanTemplate,
];
/// Whose custom fields a compound aggregation sees. Those of aggregations would be taken for aggregations.
const OWNERS_OF_COMPOUND: [Owner; 8] = [
    Owner::Organization,
    Owner::Product,
    Owner::CompoundAggregation,
    Owner::Account,
    Owner::AccountPlan,
    Owner::Plan,
    Owner::PlanTemplate,
    Owner::Contract,
];

/// What a derived field can name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Source<'a> {
    DataField(&'a DataField),
    /// When the measurement begins, in milliseconds since 1970.
    Start,
    /// When it ends, in milliseconds since 1970; null if it has no end.
    End,
    Custom {
        owner: Owner,
        name: &'a str,
        default: &'a CustomValue,
    },
}

impl Source<'_> {
    fn variable(&self) -> Variable {
        let (name, holds) = match self {
            Self::DataField(field) => (field.code.clone(), field.category.holds()),
            Self::Start => ("timestamp.ts".to_owned(), Type::Number),
            Self::End => ("timestamp.ets".to_owned(), Type::Number),
            Self::Custom {
                owner,
                name,
                default,
            } => (format!("{}.{name}", owner.word()), default.holds()),
        };
        Variable { name, holds }
    }
}

/// All that the derived fields of a meter can name, the data fields first and in their order. The place of a source is
/// the place of its value in the rows that the calculations are evaluated over.
pub(crate) fn derived_sources<'a>(
    data_fields: &'a [DataField],
    custom_fields: &'a CustomFields,
) -> Vec<Source<'a>> {
    let mut sources: Vec<_> = data_fields.iter().map(Source::DataField).collect();
    sources.extend([Source::Start, Source::End]);
    for owner in OWNERS_OF_DERIVED {
        let defaults = custom_fields.defaults(owner).iter();
        sources.extend(defaults.map(|(name, default)| Source::Custom {
            owner,
            name,
            default,
        }));
    }
    sources
}

/// The calculation of a derived field over [`derived_sources`].
pub(crate) fn parse_derived(
    field: &DerivedField,
    sources: &[Source<'_>],
) -> Result<Calculation, Rule> {
    let variables: Vec<_> = sources.iter().map(Source::variable).collect();
    check(
        parse(&field.calculation)?,
        &variables,
        field.category.holds(),
    )
}

/// What calculations take together is bounded where they are saved; those that were saved before are calculated on.
pub(crate) fn check_operations<'c>(
    calculations: impl IntoIterator<Item = &'c Calculation>,
    max: usize,
) -> Result<(), Rule> {
    let calculations = calculations.into_iter();
    let operations: usize = calculations.map(Calculation::operations).sum();
    if operations <= max {
        return Ok(());
    }
    let text = format!(
        "must take at most {max} operations, where a power counts as {POWER_OPERATIONS}; it takes {operations}"
    );
    Err(Rule::Other {
        code: "operations",
        text: text.into(),
    })
}

/// Checks the calculation of a compound aggregation. Returns the codes of the aggregations it names, each once; whether
/// they exist is for the caller to see.
pub(crate) fn parse_compound(
    calculation: &str,
    custom_fields: &CustomFields,
) -> Result<Vec<String>, Rule> {
    let formula = parse(calculation)?;
    let codes: Vec<_> = formula
        .names()
        .filter_map(|name| name.strip_prefix(AGGREGATION))
        .map(str::to_owned)
        .collect();
    if codes.len() > AGGREGATIONS_MAX {
        return Err(refusal(&format!(
            "it names more than {AGGREGATIONS_MAX} aggregations"
        )));
    }
    let aggregations = codes.iter().map(|code| Variable {
        name: format!("{AGGREGATION}{code}"),
        holds: Type::Number,
    });
    let custom = OWNERS_OF_COMPOUND.into_iter().flat_map(|owner| {
        let defaults = custom_fields.defaults(owner).iter();
        defaults.map(move |(name, default)| {
            Source::Custom {
                owner,
                name,
                default,
            }
            .variable()
        })
    });
    let variables: Vec<_> = aggregations.chain(custom).collect();
    let calculation = check(formula, &variables, Type::Number)?;
    check_operations([&calculation], OPERATIONS_MAX)?;
    Ok(codes)
}

fn parse(text: &str) -> Result<Formula, Rule> {
    Formula::parse(text).map_err(|error| refusal(&error.to_string()))
}

fn check(formula: Formula, variables: &[Variable], result: Type) -> Result<Calculation, Rule> {
    formula.check(variables, result).map_err(|errors| {
        let reasons: Vec<_> = errors.iter().map(ToString::to_string).collect();
        refusal(&reasons.join("; "))
    })
}

fn refusal(reason: &str) -> Rule {
    Rule::Other {
        code: "calculation",
        text: format!("must be a calculation: {reason}").into(),
    }
}
