//! Filters that do not fit a table, and filters of the program's own that say no: at the worker before anything is sent, and
//! at the shard whatever the worker says.

use crate::wires::*;
use keyrange::filter::{Chain, ChainSpec, Direction, FilterRegistry, Filters, PartView, RowView, UserFilter};
use keyrange::update::Combine;

const ROWS: usize = 100;

fn chain(text: &str) -> ChainSpec {
    text.parse().unwrap()
}

/// Filters with the program's own among them.
fn filters(push: &str, pull: &str) -> Filters {
    let make = |text: &str, direction| {
        let spec = chain(text);
        (!spec.is_empty()).then(|| Chain::with_users(&spec, direction, 42, &own_filters()).unwrap())
    };
    Filters::of(make(push, Direction::Push), make(pull, Direction::Pull))
}

fn own_filters() -> FilterRegistry {
    let mut registry = FilterRegistry::default();
    add_own_filters(&mut registry);
    registry
}

/// Does to f32 rows what its parameter says.
struct Own(String);

impl UserFilter for Own {
    fn value_type(&self) -> Option<ValueType> {
        Some(ValueType::F32)
    }

    fn rows(&mut self, rows: &mut RowView<'_>) -> Result<(), String> {
        let [PartView::F32(values)] = rows.parts() else { return Err("expected one f32 array".to_owned()) };
        match self.0.as_str() {
            "clip" => values.iter_mut().for_each(|x| *x = x.min(2.0)),
            "drop" => rows.drop_row(3),
            _ if values.contains(&13.0) => return Err("13 brings bad luck".to_owned()),
            _ => {}
        }
        Ok(())
    }
}

fn add_own_filters(registry: &mut FilterRegistry) {
    registry.register("own", |what| Ok(Box::new(Own(what.to_owned()))));
}

/// Keeps the last push: as `assign`, under a name that no worker knows.
struct Last;

impl ServerFn<f32> for Last {
    fn name(&self) -> &str {
        "last"
    }
    fn combine(&self) -> Combine {
        Combine::Each
    }
    fn update(&mut self, rows: &mut Rows<'_, f32>, parts: &[&[f32]]) -> Result<(), UpdateError> {
        rows.scatter(0, parts[0]);
        Ok(())
    }
}

fn cluster() -> Cluster {
    Cluster::with_registry(1, 2, |registry| {
        registry.register_f32("last", |_| Ok(Box::new(Last)));
        add_own_filters(&mut registry.filters);
    })
}

fn table(cluster: &mut Cluster, id: u16, function: &str) -> TableHandle {
    let (name, function) = (format!("{function} values"), FunctionSpec::named(function));
    cluster.create(&TableSpec { id, name, function, ..spec(StoreKind::Sparse) })
}

fn keys() -> Keys {
    Keys::List(spread(ROWS as u64, 0))
}

fn push(
    cluster: &mut Cluster,
    table: TableHandle,
    values: Vec<f32>,
    filters: &Filters,
) -> Result<TaskId, SubmitError> {
    let options = Options { filters: filters.clone(), ..Options::at(1) };
    cluster.workers[0].push(table, keys(), vec![values], options, &mut cluster.up[0])
}

fn pull(cluster: &mut Cluster, table: TableHandle, filters: &Filters) -> Result<Vec<f32>, TaskError> {
    let options = Options { filters: filters.clone(), ..Options::at(1) };
    let out = &mut cluster.up[0];
    let task = cluster.workers[0].pull::<f32>(table, keys(), vec![], options, out).unwrap();
    cluster.wait(0, task).map(|outcome| outcome.values.into_vec())
}

#[test]
fn a19_a_push_that_leaves_rows_out_is_refused_where_rows_do_not_add_up() {
    let mut cluster = cluster();
    for (id, function) in (1..).zip(["assign", "max", "min", "last"]) {
        let known = table(&mut cluster, id, function);
        let before = cluster.pull(0, known, &keys());
        for text in ["significant:0.5", "skip:0.5,fixed:1", "zeros,frequency:2", "bloom,lz4"] {
            let filters = filters(text, "none");
            let lossy = chain(text);
            let lossy = lossy.filters.iter().find(|filter| filter.needs_sums()).unwrap();
            if function != "last" {
                let error = push(&mut cluster, known, vec![1.0; ROWS], &filters).unwrap_err();
                let said = error.to_string();
                assert!(matches!(error, SubmitError::Filter(_)) && cluster.up[0].frames.is_empty(), "{said}");
                let words = [&format!("table {id}"), &format!("{function:?}"), lossy.name(), "function adds"];
                assert!(words.iter().all(|word| said.contains(*word)), "{said}");
            }
            // A worker that knows nothing of the function, or says so.
            let unknown = TableHandle { not_adding: None, ..known };
            let task = push(&mut cluster, unknown, vec![1.0; ROWS], &filters).unwrap();
            let said = refusal(cluster.wait(0, task).unwrap_err());
            let words = [&format!("{:?}", format!("{function} values")), "skip", "function adds"];
            assert!(words.iter().all(|word| said.contains(*word)), "{said}");
            assert_eq!(cluster.pull(0, known, &keys()), before, "{function}, {text}");
        }
        for text in ["key-cache,zeros,lz4", "fixed:3", "noise:0", "user:own:clip,bf16"] {
            let task = push(&mut cluster, known, vec![1.0; ROWS], &filters(text, "none")).unwrap();
            cluster.wait(0, task).unwrap();
            assert_eq!(cluster.pull(0, known, &keys()), vec![1.0; ROWS], "{function}, {text}");
        }
        // Whether a filter of the program's own drops rows shows when it runs.
        let task = push(&mut cluster, known, vec![5.0; ROWS], &filters("user:own:drop", "none")).unwrap();
        assert!(refusal(cluster.wait(0, task).unwrap_err()).contains("filters of your own"));
        assert_eq!(cluster.pull(0, known, &keys()), vec![1.0; ROWS], "{function}");
    }
    let sums = table(&mut cluster, 9, "add");
    let task = push(&mut cluster, sums, vec![5.0; ROWS], &filters("user:own:drop", "none")).unwrap();
    cluster.wait(0, task).unwrap();
    let got = cluster.pull(0, sums, &keys());
    // Each of the two shards got a message of its own.
    assert_eq!(got.iter().filter(|&&x| x == 5.0).count(), ROWS - 2);
}

/// The text of a shard that refuses filters.
fn refusal(error: TaskError) -> String {
    match error {
        TaskError::Refused { code: RefusalCode::Filter, text, .. } => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a19_a_filter_of_the_programs_own_may_say_no_and_the_link_lives_on() {
    let mut cluster = cluster();
    let sums = table(&mut cluster, 1, "add");
    let (mut values, both) = (vec![1.0; ROWS], filters("user:own", "user:own"));
    values[0] = 13.0;
    let task = push(&mut cluster, sums, values.clone(), &both).unwrap();
    let error = cluster.wait(0, task).unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, TaskError::PushFilter { .. }), "{said}");
    assert!(said.contains("user:own") && said.contains("bad luck"), "{said}");
    assert!(cluster.pull(0, sums, &keys())[0] == 0.0);
    let task = push(&mut cluster, sums, values.clone(), &Filters::default()).unwrap();
    cluster.wait(0, task).unwrap();
    let said = refusal(pull(&mut cluster, sums, &both).unwrap_err());
    assert!(said.contains("user:own") && said.contains("bad luck"), "{said}");
    // What was refused is not asked again, and what comes later goes through.
    let task = push(&mut cluster, sums, vec![1.0; ROWS], &both).unwrap();
    cluster.wait(0, task).unwrap();
    assert_eq!(pull(&mut cluster, sums, &both).unwrap()[0], 14.0);
}

#[test]
fn a19_a_refused_answer_that_finds_no_room_is_still_a_refusal() {
    let mut cluster = cluster();
    let sums = table(&mut cluster, 1, "add");
    let task = push(&mut cluster, sums, vec![13.0; ROWS], &Filters::default()).unwrap();
    cluster.wait(0, task).unwrap();
    let options = Options { filters: filters("none", "user:own"), ..Options::at(1) };
    let out = &mut cluster.up[0];
    let task = cluster.workers[0].pull::<f32>(sums, keys(), vec![], options, out).unwrap();
    for (to, frame) in std::mem::take(&mut cluster.up[0].frames) {
        cluster.shards[to.0 as usize].handle(PeerId(0), frame.bytes(), &mut FullRing).unwrap();
    }
    assert!(cluster.shards.iter_mut().all(|shard| !shard.flush(&mut FullRing)));
    assert!(refusal(cluster.wait(0, task).unwrap_err()).contains("bad luck"));
}

#[test]
fn a19_a_filter_that_does_not_fit_the_value_type_is_refused_at_both_ends() {
    let mut cluster = cluster();
    let doubles = cluster.create(&TableSpec { value_type: ValueType::F64, ..spec(StoreKind::Sparse) });
    let both = filters("user:own:clip", "user:own:clip");
    let options = |filters: &Filters| Options { filters: filters.clone(), ..Options::default() };
    let out = &mut cluster.up[0];
    let worker = &mut cluster.workers[0];
    for error in [
        worker.push(doubles, keys(), vec![vec![1f64; ROWS]], options(&both), out).unwrap_err(),
        worker.pull::<f64>(doubles, keys(), vec![], options(&both), out).unwrap_err(),
    ] {
        let said = error.to_string();
        assert!(matches!(error, SubmitError::Filter(_)) && said.contains("user:own"), "{said}");
        assert!(said.contains("F32 only") && said.contains("F64"), "{said}");
    }
    assert!(out.frames.is_empty());
    // A worker that has no such filter cannot know.
    let unknown = Filters::new(&chain("none"), &chain("user:own:clip"), 1).unwrap();
    let task = worker.pull::<f64>(doubles, keys(), vec![], options(&unknown), out).unwrap();
    let said = refusal(cluster.wait(0, task).unwrap_err());
    assert!(said.contains("worker 0") && said.contains("F32 only"), "{said}");
}
