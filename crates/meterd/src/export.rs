//! `meterd export`: measurements of a running server, to a file or to standard output.

use crate::cli::{ExportFormat, ExportOptions};
use crate::key::Api;
use crate::terminal::{Unit, grouped, progress_bar};
use anyhow::Context as _;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

pub(crate) fn run(options: &ExportOptions) -> anyhow::Result<()> {
    let api = Api::patient(&options.server, &options.key);
    let format = match options.format {
        ExportFormat::Ndjson => "ndjson",
        ExportFormat::Csv => "csv",
        ExportFormat::Parquet => "parquet",
    };
    let mut query = vec![
        ("meter", options.meter.clone()),
        ("format", format.to_owned()),
    ];
    query.extend(options.from.iter().map(|from| ("from", from.clone())));
    query.extend(options.to.iter().map(|to| ("to", to.clone())));
    let body = api.stream("/v1/export", &query)?;
    let bar = progress_bar(0, "exporting", Unit::Stream);
    let body = bar.wrap_read(body);
    if options.output == Path::new("-") {
        copy(body, &mut io::stdout().lock())?;
        bar.finish_and_clear();
        return Ok(());
    }
    let bytes = to_file(body, &options.output)?;
    bar.finish_and_clear();
    println!("{}: {} bytes", options.output.display(), grouped(bytes));
    Ok(())
}

/// Writes beside the file and renames, so that there is no file which is not whole.
fn to_file(body: impl Read, output: &Path) -> anyhow::Result<u64> {
    let mut draft = output.as_os_str().to_owned();
    draft.push(".part");
    let draft = PathBuf::from(draft);
    let write = || {
        let mut file =
            File::create(&draft).with_context(|| format!("write {}", draft.display()))?;
        let bytes = copy(body, &mut file)?;
        file.sync_all()?;
        fs::rename(&draft, output).with_context(|| format!("write {}", output.display()))?;
        Ok(bytes)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&draft);
    })
}

fn copy(mut body: impl Read, to: &mut impl Write) -> anyhow::Result<u64> {
    let bytes = io::copy(&mut body, to).context("the export broke off")?;
    to.flush()?;
    Ok(bytes)
}
