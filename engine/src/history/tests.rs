use super::*;

fn header(rank: u32) -> Header {
    Header { rank, incarnation: 0, workers: 2, staleness: Staleness::bounded(1).unwrap(), eager: false }
}

fn read(clock: u64, row_clock: u64, counts: [u32; 2]) -> Event {
    Event::Read { key: 7, clock, row_clock, counts: counts.to_vec() }
}

const fn inc(clock: u64) -> Event {
    Event::Inc { key: 7, clock }
}

const fn closed(clock: u64) -> Event {
    Event::Clock { clock }
}

/// Worker 1 adds once at each of the clocks 0 to 3; worker 0 does `events`.
fn run_of(events: Vec<Event>, end: [u32; 2]) -> [Recorded; 2] {
    let other = (0..4).flat_map(|clock| [inc(clock), closed(clock + 1)]).collect();
    let events = events.into_iter().chain([Event::Final { key: 7, counts: end.to_vec() }]).collect();
    [Recorded { header: header(0), events }, Recorded { header: header(1), events: other }]
}

fn check_run(run: &[Recorded]) -> Result<Summary, String> {
    let all: Vec<&dyn History> = run.iter().map(|one| one as &dyn History).collect();
    check(&all).map_err(|violation| violation.to_string())
}

#[test]
fn a_run_as_promised_has_a_histogram() {
    let run = run_of(
        vec![
            read(0, 0, [0, 1]),
            inc(0),
            read(0, 0, [1, 1]),
            closed(1),
            read(1, 1, [1, 1]),
            closed(2),
            read(2, 1, [1, 2]),
        ],
        [1, 4],
    );
    let summary = check_run(&run).unwrap();
    assert_eq!((summary.reads, summary.increments, summary.clocks, summary.rows), (4, 5, 6, 1));
    assert_eq!(summary.staleness.into_iter().collect::<Vec<_>>(), [(-2, 1), (-1, 3)]);
}

#[test]
fn each_broken_promise_is_told_in_words() {
    let cases = [
        ("asks for 1", vec![closed(1), closed(2), read(2, 0, [0, 4])], [0, 4]),
        ("had made 1 by then", vec![closed(1), closed(2), read(2, 1, [0, 0])], [0, 4]),
        ("this worker's own 1", vec![inc(0), read(0, 0, [0, 0]), closed(1)], [1, 4]),
        ("it held 3 before", vec![read(0, 0, [0, 3]), read(0, 0, [0, 2])], [0, 4]),
        ("made only 4", vec![read(0, 0, [0, 5])], [0, 4]),
        ("clock goes from 1 to 3", vec![closed(1), closed(3)], [0, 4]),
        ("which made 4", vec![closed(1)], [0, 3]),
        ("which made none", vec![closed(1)], [1, 4]),
        ("the bound being 1", vec![Event::Settled { clock: 0, norm: 2.0, bound: 1.0 }], [0, 4]),
    ];
    for (words, events, end) in cases {
        let error = check_run(&run_of(events, end)).unwrap_err();
        assert!(error.contains(words), "expected {words:?} in: {error}");
    }
    let run = run_of(vec![closed(1)], [0, 4]);
    assert!(check_run(&run[..1]).unwrap_err().contains("worker 1 of 2 is missing"));
}

#[test]
fn files_say_what_was_recorded_and_damage_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let run = run_of(
        vec![read(0, 0, [0, 1]), Event::Settled { clock: 0, norm: 0.5, bound: 1.0 }, closed(1)],
        [0, 4],
    );
    for one in &run {
        let mut file = Box::new(FileRecorder::create(folder.path(), &one.header).unwrap());
        one.events.iter().for_each(|event| file.note(event));
        file.finish().unwrap();
    }
    let files = open_folder(folder.path()).unwrap();
    for (file, one) in files.iter().zip(&run) {
        assert_eq!(file.header(), &one.header);
        assert_eq!(file.events().unwrap().map(Result::unwrap).collect::<Vec<_>>(), one.events);
    }
    let path = folder.path().join("worker-0-0.history");
    let whole = std::fs::read(&path).unwrap();
    // Cut anywhere, or with any byte changed: an error or other events, never a panic.
    for at in 0..whole.len() {
        std::fs::write(&path, &whole[..at]).unwrap();
        let read = HistoryFile::open(&path).and_then(|file| file.events()?.collect::<Result<Vec<_>, _>>());
        let text = read.unwrap_err().to_string();
        assert!(text.contains("worker-0-0") && text.contains("byte"), "{text}");
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        std::fs::write(&path, damaged).unwrap();
        let _ = HistoryFile::open(&path).and_then(|file| file.events()?.collect::<Result<Vec<_>, _>>());
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(folder.path().join("worker-1-0.history")).unwrap();
    assert!(open_folder(folder.path()).unwrap_err().to_string().contains("no file"));
}
