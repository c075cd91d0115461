//! `ClickHouse`: a server of its own below a temporary folder, with a `MergeTree` table. No sync, no de-duplication.

use super::{Bench, FROM, Loaded, QUESTIONS, TO, ask, find, free_address};
use crate::child::{self, Figures, Folder, Running};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

#[derive(Debug)]
pub(super) struct ClickHouse {
    program: PathBuf,
    version: String,
}

struct Server {
    address: SocketAddr,
    modern: bool,
    // In this order: the process ends before its folder goes.
    process: Running,
    folder: Folder,
}

impl ClickHouse {
    pub(super) fn find() -> Option<Self> {
        let mut found = Self {
            program: find(&["clickhouse-server", "clickhouse"])?,
            version: String::new(),
        };
        // Debian's tells its version only when asked while it runs.
        match found
            .start()
            .and_then(|server| server.ask("SELECT version()"))
        {
            Ok(version) => version.trim().clone_into(&mut found.version),
            Err(error) => {
                eprintln!("ClickHouse does not run: {error:#}");
                return None;
            }
        }
        Some(found)
    }

    pub(super) fn version(&self) -> String {
        self.version.clone()
    }

    pub(super) fn ingest(&self, bench: &Bench) -> anyhow::Result<Figures> {
        self.start()?.load(bench)
    }

    pub(super) fn query(&self, bench: &Bench) -> anyhow::Result<Figures> {
        let server = self.start()?;
        let mut figures = server.load(bench)?;
        figures.set(
            "rows",
            server.ask("SELECT count() FROM bench")?.trim().parse()?,
        );
        for (name, question) in server.questions() {
            let body = server.folder.path().join("question.sql");
            std::fs::write(&body, question)?;
            let answered = bench.post(&format!("http://{}/", server.address), &body)?;
            for which in ["best_ms", "p50_ms"] {
                figures.set(&format!("{name}_{which}"), answered.get(which)?);
            }
        }
        Ok(figures)
    }

    fn start(&self) -> anyhow::Result<Server> {
        let folder = Folder::create("peers-clickhouse")?;
        let (address, tcp) = (free_address()?, free_address()?);
        let compat = crate::root().join("compat/peers");
        let directory = folder.path();
        let filled = |file: &str| -> anyhow::Result<String> {
            let text = std::fs::read_to_string(compat.join(file))?;
            Ok(text
                .replace("{{directory}}", &directory.to_string_lossy())
                .replace("{{http_port}}", &address.port().to_string())
                .replace("{{tcp_port}}", &tcp.port().to_string()))
        };
        let config = directory.join("config.xml");
        std::fs::write(&config, filled("clickhouse.xml")?)?;
        std::fs::write(directory.join("users.xml"), filled("clickhouse-users.xml")?)?;
        let mut command = child::command(&self.program);
        if self.program.file_name() == Path::new("clickhouse").file_name() {
            command.arg("server");
        }
        command
            .arg(format!("--config-file={}", config.display()))
            .current_dir(directory)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut process = Running::start(&mut command)?;
        process.wait_until(|| ask(address, "/ping", "").is_ok())?;
        let mut server = Server {
            address,
            modern: false,
            process,
            folder,
        };
        let types = server
            .ask("SELECT count() FROM system.data_type_families WHERE name = 'DateTime64'")?;
        server.modern = types.trim() != "0";
        server.create_table()?;
        Ok(server)
    }
}

impl Server {
    fn ask(&self, sql: &str) -> anyhow::Result<String> {
        ask(self.address, "/", sql)
    }

    fn create_table(&self) -> anyhow::Result<()> {
        let (time, month) = if self.modern {
            ("DateTime64(6)", "toYYYYMM(time)")
        } else {
            ("Int64", "toYYYYMM(toDateTime(intDiv(time, 1000000)))")
        };
        let sql = format!(
            "CREATE TABLE bench (id String, meter LowCardinality(String), subject LowCardinality(String), \
             time {time}, requests Decimal(38, 18), bytes Decimal(38, 18), region LowCardinality(String)) \
             ENGINE = MergeTree PARTITION BY {month} ORDER BY (meter, subject, time)"
        );
        self.ask(&sql).map(drop)
    }

    fn load(&self, bench: &Bench) -> anyhow::Result<Figures> {
        let known = self.ask("SELECT count() FROM system.settings WHERE name = 'async_insert'")?;
        let inserts = if known.trim() == "0" {
            ""
        } else {
            "&async_insert=0"
        };
        let mut figures = bench.load(&Loaded {
            url: format!(
                "http://{}/?query=INSERT%20INTO%20bench%20FORMAT%20JSONEachRow{inserts}",
                self.address
            ),
            format: "clickhouse",
            process: &self.process,
        })?;
        // What has been merged into larger parts stays on disk for minutes; it would be unfair to count it.
        let bytes = self
            .ask("SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND table = 'bench'")?;
        bench.set_disk_bytes(&mut figures, bytes.trim().parse()?);
        Ok(figures)
    }

    /// In the order of `QUESTIONS`.
    fn questions(&self) -> impl Iterator<Item = (&'static str, String)> {
        let moment = |time: &str| {
            let text = time.replace('T', " ").replace('Z', "");
            if self.modern {
                format!("toDateTime64('{text}', 6)")
            } else {
                format!("toInt64(toDateTime('{text}')) * 1000000")
            }
        };
        let hour = if self.modern {
            "toStartOfHour(time)"
        } else {
            "intDiv(time, 3600000000)"
        };
        let source = format!(
            "FROM bench WHERE meter = 'bench' AND time >= {} AND time < {}",
            moment(FROM),
            moment(TO)
        );
        let questions = [
            format!(
                "SELECT subject, sum(bytes) AS total {source} GROUP BY subject ORDER BY total DESC LIMIT 100"
            ),
            format!(
                "SELECT region, {hour} AS hour, sum(bytes) AS total {source} GROUP BY region, hour ORDER BY region, hour"
            ),
        ];
        QUESTIONS.into_iter().map(|(name, _)| name).zip(questions)
    }
}
