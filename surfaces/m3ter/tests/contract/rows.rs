//! The observable behaviours that a compatible server is checked by, each with the tests that hold it: functions of
//! this suite, and of the walk that the official SDK takes (`compat/m3ter`). Rows 67 to 79 are billing's.

struct Row {
    number: u32,
    says: &'static str,
    tests: &'static [&'static str],
}

const fn row(number: u32, says: &'static str, tests: &'static [&'static str]) -> Row {
    Row {
        number,
        says,
        tests,
    }
}

const ROWS: &[Row] = &[
    row(
        1,
        "a token for key and secret, asked in JSON",
        &["access::a_key_and_its_secret_are_worth_a_token"],
    ),
    row(
        2,
        "the same in a form",
        &["access::a_key_and_its_secret_are_worth_a_token"],
    ),
    row(3, "the SDK reads a token", &["core.py::identity"]),
    row(
        4,
        "a wrong secret",
        &[
            "access::what_is_no_good_for_a_token_says_so",
            "faults::who_asks",
        ],
    ),
    row(
        5,
        "another grant",
        &[
            "access::what_is_no_good_for_a_token_says_so",
            "faults::who_asks",
        ],
    ),
    row(
        6,
        "many tokens at a time, counted by no limit",
        &[
            "access::a_key_and_its_secret_are_worth_a_token",
            "access::a_token_costs_no_write",
            "limits::an_address_has_its_requests_in_five_minutes_and_tokens_are_no_part_of_them",
        ],
    ),
    row(
        7,
        "an expired token",
        &[
            "access::without_a_good_token_everything_is_unauthorized",
            "faults::who_asks",
        ],
    ),
    row(
        8,
        "no token, or garbage",
        &["access::without_a_good_token_everything_is_unauthorized"],
    ),
    row(
        9,
        "an unknown organization",
        &["access::another_organization_is_forbidden_whether_it_exists_or_not"],
    ),
    row(
        10,
        "another's organization",
        &["access::another_organization_is_forbidden_whether_it_exists_or_not"],
    ),
    row(
        11,
        "what policies deny",
        &[
            "policies::a_key_without_a_policy_may_fetch_a_token_and_nothing_else",
            "policies::deny_beats_allow",
        ],
    ),
    row(
        12,
        "one form of all failures",
        &["faults::every_code_is_provoked_or_not_of_this_surface"],
    ),
    row(
        13,
        "what creating answers",
        &["resources::creating_answers_the_whole_entity"],
    ),
    row(
        14,
        "what retrieving answers",
        &["resources::creating_answers_the_whole_entity"],
    ),
    row(
        15,
        "updating with the version",
        &["resources::replacing_needs_the_present_version"],
    ),
    row(
        16,
        "updating without it",
        &["resources::replacing_needs_the_present_version"],
    ),
    row(
        17,
        "deleting",
        &["resources::deleting_answers_what_was_deleted"],
    ),
    row(
        18,
        "a code in place of an id",
        &["resources::a_code_is_no_id"],
    ),
    row(
        19,
        "an id of another organization",
        &["products::an_entity_is_found_by_its_id_in_its_organization_alone"],
    ),
    row(
        20,
        "what an update leaves out is gone",
        &["resources::replacing_clears_what_is_left_out"],
    ),
    row(
        21,
        "pages",
        &[
            "products::lists_come_in_pages_newest_first",
            "core.py::configuration",
        ],
    ),
    row(
        22,
        "newest first",
        &["resources::lists_are_paged_from_the_newest"],
    ),
    row(
        23,
        "sizes of pages",
        &["resources::lists_are_paged_from_the_newest"],
    ),
    row(
        24,
        "filters by ids and codes",
        &["resources::lists_are_narrowed_by_ids_and_codes"],
    ),
    row(
        25,
        "searches for accounts",
        &[
            "accounts::a_search_finds_by_its_conditions",
            "accounts::a_search_shows_10_and_tells_where_the_next_begins",
            "accounts::a_search_that_cannot_be_read_is_refused",
        ],
    ),
    row(
        26,
        "malformed JSON",
        &[
            "resources::malformed_json_is_located",
            "faults::requests_as_a_whole",
        ],
    ),
    row(
        27,
        "names, codes and e-mail addresses",
        &["resources::bad_fields_are_told_by_name"],
    ),
    row(28, "a code twice", &["resources::a_code_is_used_once"]),
    row(
        29,
        "how many fields a meter has",
        &["meters::a_meter_has_1_to_15_data_fields_and_0_to_15_derived_ones"],
    ),
    row(
        30,
        "codes of fields and of meters",
        &[
            "meters::fields_are_checked_one_by_one",
            "resources::creating_answers_the_whole_entity",
        ],
    ),
    row(
        31,
        "a meter without a field that is aimed at",
        &["meters::aggregations_keep_the_fields_they_are_of"],
    ),
    row(
        32,
        "a meter with one more field",
        &["meters::aggregations_keep_the_fields_they_are_of"],
    ),
    row(
        33,
        "what an aggregation must be",
        &[
            "resources::bad_fields_are_told_by_name",
            "aggregations::an_aggregation_fits_its_field",
            "aggregations::segments_have_the_segmented_fields_as_keys",
        ],
    ),
    row(
        34,
        "functions fit their fields",
        &["aggregations::an_aggregation_fits_its_field"],
    ),
    row(
        35,
        "a compound of nothing",
        &["aggregations::a_compound_names_aggregations_that_exist"],
    ),
    row(
        36,
        "two levels of accounts",
        &["accounts::there_are_parents_and_children_and_nothing_beyond"],
    ),
    row(
        37,
        "the organization's configuration",
        &[
            "configuration::the_organization_is_configured_from_the_start",
            "configuration::the_organization_s_configuration_is_replaced_as_a_whole",
        ],
    ),
    row(
        38,
        "who is asking",
        &[
            "organization::a_caller_is_told_who_it_is",
            "core.py::identity",
        ],
    ),
    row(
        39,
        "an answer without a body",
        &[
            "organization::users_are_listed_changed_and_lose_their_access",
            "core.py::identity",
        ],
    ),
    row(
        40,
        "a measurement",
        &["ingest::a_measurement_is_stored_with_its_derived_field_when_it_is_accepted"],
    ),
    row(
        41,
        "1 to 1,000 measurements",
        &["ingest::a_request_has_one_to_a_thousand_rows_and_fewer_than_512000_bytes"],
    ),
    row(
        42,
        "fewer than 512,000 bytes",
        &["ingest::a_request_has_one_to_a_thousand_rows_and_fewer_than_512000_bytes"],
    ),
    row(
        43,
        "2,500 in three requests, below two slashes",
        &[
            "core.py::usage",
            "access::paths_and_methods_that_are_not_there_are_not_found",
        ],
    ),
    row(
        44,
        "an unknown meter",
        &["ingest::what_does_not_fit_its_meter_is_told_and_the_rest_is_stored"],
    ),
    row(
        45,
        "a missing field",
        &["ingest::what_does_not_fit_its_meter_is_told_and_the_rest_is_stored"],
    ),
    row(
        46,
        "a field in two categories",
        &["ingest::what_does_not_fit_its_meter_is_told_and_the_rest_is_stored"],
    ),
    row(47, "a uid twice", &["ingest::a_uid_counts_once"]),
    row(
        48,
        "a derived field without a result",
        &["ingest::a_derived_field_that_cannot_be_computed_is_left_out"],
    ),
    row(
        49,
        "an unknown account",
        &["ingest::an_unknown_account_is_made_and_keeps_its_usage"],
    ),
    row(
        50,
        "an account whose code changes",
        &["ingest::an_unknown_account_is_made_and_keeps_its_usage"],
    ),
    row(
        51,
        "negative, past and future",
        &[
            "usage::functions_come_to_the_right_numbers",
            "ingest::a_malformed_row_refuses_the_request_with_all_that_is_wrong",
        ],
    ),
    row(
        52,
        "what a measurement must have",
        &["ingest::a_malformed_row_refuses_the_request_with_all_that_is_wrong"],
    ),
    row(
        53,
        "the file of failures",
        &["failures::each_kind_of_failure_is_an_event_that_names_the_file"],
    ),
    row(
        54,
        "measurements as a file",
        &["uploads::a_file_is_taken_in_and_its_rows_are_stored"],
    ),
    row(
        55,
        "functions",
        &[
            "usage::functions_come_to_the_right_numbers",
            "usage::groups_and_functions_agree_with_a_slow_reckoning",
        ],
    ),
    row(
        56,
        "start and end",
        &["usage::a_period_has_its_start_and_not_its_end"],
    ),
    row(
        57,
        "groups",
        &[
            "usage::what_a_query_asks_must_make_sense",
            "usage::groups_and_functions_agree_with_a_slow_reckoning",
        ],
    ),
    row(
        58,
        "limits of rows",
        &[
            "usage::what_a_query_asks_must_make_sense",
            "usage::the_newest_rows_are_kept_where_an_answer_is_cut",
        ],
    ),
    row(
        59,
        "filters, and a parent's usage",
        &["usage::filters_meet_and_their_values_are_choices"],
    ),
    row(
        60,
        "counter adjustments",
        &[
            "configuration::a_counter_is_adjusted_once_a_day_for_an_account",
            "configuration::adjustments_are_asked_for_by_counter",
        ],
    ),
    row(
        61,
        "events",
        &[
            "events::types_and_fields_are_told",
            "events::a_change_is_an_event_with_both_sides",
            "events::events_are_found_by_filters_and_pages",
        ],
    ),
    row(
        62,
        "exports",
        &["exports::usage_is_exported_as_it_was_measured"],
    ),
    row(
        63,
        "eleven usage queries at once",
        &["limits::usage_queries_have_a_measure_of_their_own"],
    ),
    row(
        64,
        "more than fifty requests a second",
        &[
            "limits::an_organization_has_its_requests_a_second",
            "retries.py::main",
        ],
    ),
    row(65, "a gateway fails twice", &["retries.py::main"]),
    row(
        66,
        "an answer that is too large",
        &[
            "usage::an_answer_past_the_bound_is_refused_until_it_is_narrowed",
            "limits::every_list_has_a_bound_and_can_be_narrowed",
        ],
    ),
    row(
        80,
        "unknown members",
        &["resources::unknown_members_and_a_version_are_ignored_when_creating"],
    ),
];

const SOURCES: &[(&str, &str)] = &[
    ("access", include_str!("access.rs")),
    ("accounts", include_str!("accounts.rs")),
    ("aggregations", include_str!("aggregations.rs")),
    ("configuration", include_str!("configuration.rs")),
    ("events", include_str!("events.rs")),
    ("exports", include_str!("exports.rs")),
    ("failures", include_str!("failures.rs")),
    ("faults", include_str!("faults.rs")),
    ("ingest", include_str!("ingest.rs")),
    ("limits", include_str!("limits.rs")),
    ("meters", include_str!("meters.rs")),
    ("organization", include_str!("organization.rs")),
    ("policies", include_str!("policies.rs")),
    ("products", include_str!("products.rs")),
    ("resources", include_str!("resources.rs")),
    ("uploads", include_str!("uploads.rs")),
    ("usage", include_str!("usage.rs")),
    ("core.py", include_str!("../../../../compat/m3ter/core.py")),
    (
        "retries.py",
        include_str!("../../../../compat/m3ter/retries.py"),
    ),
];

#[test]
fn every_row_has_a_test() {
    let numbers: Vec<_> = ROWS.iter().map(|row| row.number).collect();
    let expected: Vec<_> = (1..=66).chain([80]).collect();
    assert_eq!(numbers, expected);
    for Row {
        number,
        says,
        tests,
    } in ROWS
    {
        assert!(!tests.is_empty());
        for test in *tests {
            let (file, name) = test.split_once("::").unwrap();
            let source = SOURCES.iter().find(|(known, _)| *known == file);
            let (_, text) =
                source.unwrap_or_else(|| panic!("{number}, {says}: there is no {file}"));
            let forms = [
                format!("fn {name}("),
                format!("def {name}("),
                format!("    {name}: "),
            ];
            let is_there = forms.iter().any(|form| text.contains(form));
            assert!(is_there, "{number}, {says}: there is no {test}");
        }
    }
}
