//! SIGKILL during ingest, twenty times over: what was acknowledged is there exactly once, whatever was sent again.

use crate::support::{Client, Home, Server, call, furnish, run, until};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const KILLS: u64 = 20;
const THREADS: u64 = 4;
const BATCH_ROWS: u64 = 30;
/// Ids per round that the threads compete for.
const ROUND_IDS: u64 = 6_000;

/// A small generator, so that a failing seed can be run again (`SplitMix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// What clients know: ids ever sent, and those that the server acknowledged.
#[derive(Default)]
struct Ledger {
    sent: BTreeSet<u64>,
    acknowledged: BTreeSet<u64>,
    /// How often each id was answered `accepted` rather than `duplicate`.
    accepted: BTreeMap<u64, u64>,
}

/// In thousandths, with digits that no binary fraction has.
fn thousandths_of(id: u64) -> u64 {
    id * 7 + 1
}

fn row_of(id: u64) -> Value {
    let value = thousandths_of(id);
    call(
        &format!("m-{id}"),
        &format!("{}.{:03}", value / 1000, value % 1000),
    )
}

/// Sends a batch and notes the answer; false if there was none.
fn send(client: &Client, ids: &[u64], ledger: &Mutex<Ledger>) -> bool {
    ledger.lock().unwrap().sent.extend(ids);
    let rows: Vec<_> = ids.iter().map(|id| row_of(*id)).collect();
    let Ok(answer) = client.try_post("/v1/measurements", &json!({"measurements": rows})) else {
        return false;
    };
    let json = answer.ok();
    let count = |name: &str| json[name].as_u64().unwrap();
    assert_eq!(count("conflict") + count("rejected"), 0, "{json}");
    assert_eq!(
        count("accepted") + count("duplicate"),
        ids.len() as u64,
        "{json}"
    );
    let duplicates: BTreeSet<usize> = json["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| usize::try_from(item["index"].as_u64().unwrap()).unwrap())
        .collect();
    let mut ledger = ledger.lock().unwrap();
    for (index, id) in ids.iter().enumerate() {
        ledger.acknowledged.insert(*id);
        if !duplicates.contains(&index) {
            *ledger.accepted.entry(*id).or_default() += 1;
        }
    }
    true
}

/// Sends until the server is gone: new ids, ids that another thread sends too, and ids of earlier rounds.
fn send_until_killed(
    client: &Client,
    round: u64,
    random: &mut Random,
    ledger: &Mutex<Ledger>,
    acknowledged_batches: &AtomicU64,
    killed: &AtomicBool,
) {
    loop {
        let newest = (round + 1) * ROUND_IDS;
        let ids: BTreeSet<u64> = (0..BATCH_ROWS)
            .map(|_| match random.below(10) {
                0 => random.below(newest),
                _ => newest - 1 - random.below(ROUND_IDS),
            })
            .collect();
        let ids: Vec<_> = ids.into_iter().collect();
        if !send(client, &ids, ledger) {
            let gone = killed.load(Ordering::SeqCst);
            assert!(gone, "a running server gave no answer");
            return;
        }
        acknowledged_batches.fetch_add(1, Ordering::SeqCst);
    }
}

/// Acknowledged ones count exactly once, others at most once, and no version was written twice.
fn check(client: &Client, ledger: &Ledger, random: &mut Random) {
    let (sum, count) = client.sum_and_count("calls", "requests");
    let stored = listed(client);
    assert_eq!(
        count,
        stored.len() as u64,
        "the query and the listing differ"
    );
    assert!(
        ledger.acknowledged.is_subset(&stored),
        "acknowledged, but lost: {:?}",
        ledger.acknowledged.difference(&stored).collect::<Vec<_>>()
    );
    assert!(stored.is_subset(&ledger.sent), "stored, but never sent");
    let expected: u64 = stored.iter().map(|id| thousandths_of(*id)).sum();
    assert_eq!(in_thousandths(&sum), expected);
    for (id, times) in &ledger.accepted {
        assert_eq!(*times, 1, "m-{id} was accepted {times} times");
    }
    check_traces(client, ledger, random);
}

/// Once all is acknowledged, all that was sent counts, and counts once.
fn check_all(client: &Client, ledger: &Ledger, random: &mut Random) {
    assert_eq!(ledger.sent, ledger.acknowledged);
    let (sum, count) = client.sum_and_count("calls", "requests");
    assert_eq!(count, ledger.sent.len() as u64);
    let expected: u64 = ledger.sent.iter().map(|id| thousandths_of(*id)).sum();
    assert_eq!(in_thousandths(&sum), expected);
    check_traces(client, ledger, random);
}

/// Some of the acknowledged, each with one version.
fn check_traces(client: &Client, ledger: &Ledger, random: &mut Random) {
    let known: Vec<u64> = ledger.acknowledged.iter().copied().collect();
    for _ in 0..20.min(known.len()) {
        let id = known[usize::try_from(random.below(known.len() as u64)).unwrap()];
        let trace = client.get(&format!("/v1/measurements/m-{id}")).ok();
        assert_eq!(trace["verdict"], "accepted", "{trace}");
        assert_eq!(trace["versions"].as_array().unwrap().len(), 1, "{trace}");
    }
}

fn in_thousandths(text: &str) -> u64 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    whole.parse::<u64>().unwrap() * 1000 + format!("{fraction:0<3}").parse::<u64>().unwrap()
}

/// Every stored id; a repeated one is a failure.
fn listed(client: &Client) -> BTreeSet<u64> {
    let mut ids = BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let page = client
            .get(&format!("/v1/measurements?limit=1000{cursor}"))
            .ok();
        for item in page["items"].as_array().unwrap() {
            let id = item["id"].as_str().unwrap().strip_prefix("m-").unwrap();
            assert!(ids.insert(id.parse().unwrap()), "m-{id} is listed twice");
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return ids,
        }
    }
}

fn verify(home: &Home) {
    run(&["verify", "--data", &home.data()])
        .succeeded()
        .ended_with(0, &["everything is in order"]);
}

#[test]
fn what_was_acknowledged_survives_twenty_kills_exactly_once() {
    let seed = std::process::id().into();
    println!("seed {seed}");
    let mut random = Random(seed);
    let home = Home::new();
    let mut server = Server::start(&home);
    let furnished = furnish(&server, &server.admin_key());
    let ledger = Mutex::new(Ledger::default());
    for round in 0..KILLS {
        let client = furnished.at(&server.base_url);
        let acknowledged_batches = AtomicU64::new(0);
        let killed = AtomicBool::new(false);
        let pause = Duration::from_micros(random.below(120_000));
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let mut random = Random(seed + round * THREADS + thread);
                let (client, ledger) = (client.at(&server.base_url), &ledger);
                let (batches, killed) = (&acknowledged_batches, &killed);
                scope.spawn(move || {
                    send_until_killed(&client, round, &mut random, ledger, batches, killed);
                });
            }
            until("acknowledged batches", || {
                acknowledged_batches.load(Ordering::SeqCst) >= THREADS
            });
            thread::sleep(pause);
            killed.store(true, Ordering::SeqCst);
            server.child.kill();
        });
        if round % 5 == 0 {
            verify(&home);
        }
        server = Server::start(&home);
        let client = furnished.at(&server.base_url);
        check(&client, &ledger.lock().unwrap(), &mut random);

        // Clients that got no answer send again, some of them twice.
        let unacknowledged: Vec<u64> = {
            let ledger = ledger.lock().unwrap();
            ledger
                .sent
                .difference(&ledger.acknowledged)
                .copied()
                .collect()
        };
        for ids in unacknowledged.chunks(100) {
            assert!(send(&client, ids, &ledger));
        }
        if let Some(ids) = unacknowledged.chunks(100).next() {
            assert!(send(&client, ids, &ledger));
        }
        check_all(&client, &ledger.lock().unwrap(), &mut random);
    }
    println!("{} measurements", ledger.lock().unwrap().sent.len());
    assert_eq!(server.stop(), Some(0));
    verify(&home);
}
