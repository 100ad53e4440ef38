use super::factors::{Descent, predict};
use super::ratings::Ratings;
use crate::data::DataError;

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

fn lines(count: usize) -> String {
    (0..count).map(|k| format!("{},{},{}.5,99\n", k % 3 + 5, k * 7, k % 5)).collect()
}

#[test]
fn every_tenth_rating_is_for_the_test_with_or_without_names() {
    for names in ["", "userId,movieId,rating,timestamp\n"] {
        let set = Ratings::read(file(&format!("{names}{}", lines(25))).path()).unwrap();
        assert_eq!((set.train.len(), set.test.len()), (23, 2));
        assert_eq!(
            (set.users.as_slice(), set.items.len(), set.scale),
            ([5, 6, 7].as_slice(), 25, (0.5, 4.5))
        );
        assert_eq!(set.items[set.test[0].item as usize], 9 * 7);
        let mean = set.train.iter().map(|rating| rating.value).sum::<f32>() / 23.0;
        assert!((set.mean - mean).abs() < 1e-5);
    }
}

#[test]
fn users_are_shared_out_evenly_and_all_of_them() {
    let raw: Vec<_> = (0..1000u64).map(|k| (k % 97, k % 31, 3.0)).collect();
    let set = Ratings::new(&raw, "made up").unwrap();
    for workers in [1, 2, 3, 7] {
        let owners = set.owners(workers);
        assert!(owners.is_sorted() && owners.iter().all(|&owner| (owner as usize) < workers));
        for worker in 0..workers as u32 {
            let mine = set.train.iter().filter(|rating| owners[rating.user as usize] == worker).count();
            assert!(mine.abs_diff(900 / workers) < 30, "{mine} of 900 for one of {workers}");
        }
    }
}

#[test]
fn malformed_lines_are_named() {
    let cases = [
        ("7,x,3", 3, "an id"),
        ("7,8", 4, "a rating"),
        ("7,8,nan", 5, "finite"),
        ("7,-8,1", 3, "an id"),
        ("", 1, "an id"),
    ];
    for (line, at, words) in cases {
        let wrong = file(&format!("{}{line}\n{}", lines(12), lines(3)));
        match Ratings::read(wrong.path()).unwrap_err() {
            DataError::Line { line: 13, column, expected, .. } => {
                assert_eq!(column, at, "{line:?}");
                assert!(expected.contains(words), "{line:?}: {expected}");
            }
            other => panic!("{line:?}: {other}"),
        }
    }
    assert!(matches!(Ratings::read(file(&lines(9)).path()), Err(DataError::Empty { .. })));
}

#[test]
fn a_step_goes_down_the_gradient() {
    let (rating, regularisation) = (1.5_f32, 0.1);
    let loss = |user: &[f32], item: &[f32]| {
        let square = |row: &[f32]| row.iter().map(|value| value * value).sum::<f32>();
        0.5 * ((rating - predict(user, item)).powi(2) + regularisation * (square(user) + square(item)))
    };
    let (user, item) = (vec![0.3, -0.2, 0.1], vec![0.5, 0.4, -0.3]);
    let (mut stepped, mut delta) = (user.clone(), vec![0.0; 3]);
    let rate = 1e-3;
    Descent { rate, regularisation }.step(rating - predict(&user, &item), &mut stepped, &item, &mut delta);
    for at in 0..3 {
        let slope = |change: &dyn Fn(f32) -> f32| (change(1e-2) - change(-1e-2)) / 2e-2;
        let moved = |row: &[f32], by: f32| {
            let mut row = row.to_vec();
            row[at] += by;
            row
        };
        let of_user = slope(&|by| loss(&moved(&user, by), &item));
        let of_item = slope(&|by| loss(&user, &moved(&item, by)));
        assert!((stepped[at] - user[at] + rate * of_user).abs() < 1e-5, "user, {at}");
        assert!((delta[at] + rate * of_item).abs() < 1e-5, "item, {at}");
    }
}
