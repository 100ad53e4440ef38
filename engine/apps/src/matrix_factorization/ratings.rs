//! Ratings from comma-separated text: `user,item,rating` and whatever follows, with or without a line of names.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

use crate::data::DataError;
use crate::data::compression;

/// Every so manieth rating is kept for the test: rating `k` (from 0, in the order of the file) if `k % 10 == 9`.
pub const TEST_EVERY: usize = 10;

/// One rating, its user and item by place in [`Ratings::users`] and [`Ratings::items`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rating {
    /// The user.
    pub user: u32,
    /// The item.
    pub item: u32,
    /// The rating.
    pub value: f32,
}

/// A set of ratings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ratings {
    /// Ids of the users, rising.
    pub users: Vec<u64>,
    /// Ids of the items, rising.
    pub items: Vec<u64>,
    /// To train on.
    pub train: Vec<Rating>,
    /// To test on.
    pub test: Vec<Rating>,
    /// Mean of the training ratings.
    pub mean: f32,
    /// Smallest and largest rating.
    pub scale: (f32, f32),
}

impl Ratings {
    /// Reads a file, packed or not.
    ///
    /// # Errors
    /// [`DataError`] with the place.
    pub fn read(file: &Path) -> Result<Ratings, DataError> {
        let io = |source| DataError::Io { file: file.to_owned(), source };
        let (format, source) = compression::open(file).map_err(io)?;
        let mut raw = Vec::new();
        for (line, text) in (1..).zip(BufReader::new(source).lines()) {
            let text = text.map_err(|source| match format {
                compression::Compression::Plain => io(source),
                _ => DataError::Archive { file: file.to_owned(), line, format: format.name(), source },
            })?;
            match parse(&text) {
                Ok(rating) => raw.push(rating),
                // A line of names.
                Err(_) if line == 1 && !text.starts_with(|first: char| first.is_ascii_digit()) => {}
                Err((column, expected)) => {
                    let got: String = text.chars().take(60).collect();
                    let (file, expected) = (file.to_owned(), expected.to_owned());
                    return Err(DataError::Line { file, line, column, expected, got: format!("{got:?}") });
                }
            }
        }
        Ratings::new(&raw, &file.display().to_string())
    }

    /// The set of (user, item, rating), in this order. `what` names it in errors.
    ///
    /// # Errors
    /// [`DataError::Empty`], [`DataError::TooLarge`].
    pub fn new(raw: &[(u64, u64, f32)], what: &str) -> Result<Ratings, DataError> {
        if raw.len() < TEST_EVERY {
            return Err(DataError::Empty { what: format!("{what} ({} ratings, fewer than 10)", raw.len()) });
        }
        let limit = u64::from(u32::MAX);
        if raw.len() as u64 > limit {
            return Err(DataError::TooLarge { what: "ratings", limit, got: raw.len() as u64 });
        }
        let (users, user_of) = number(raw.iter().map(|&(user, ..)| user));
        let (items, item_of) = number(raw.iter().map(|&(_, item, _)| item));
        let mut set =
            Ratings { users, items, scale: (f32::INFINITY, f32::NEG_INFINITY), ..Ratings::default() };
        let mut sum = 0.0;
        for (k, &(user, item, value)) in raw.iter().enumerate() {
            let rating = Rating { user: user_of[&user], item: item_of[&item], value };
            set.scale = (set.scale.0.min(value), set.scale.1.max(value));
            if k % TEST_EVERY == TEST_EVERY - 1 {
                set.test.push(rating);
            } else {
                sum += f64::from(value);
                set.train.push(rating);
            }
        }
        set.mean = (sum / set.train.len() as f64) as f32;
        Ok(set)
    }

    /// Which worker owns each user: neighbours together, so that each of `workers` has about as many training ratings.
    pub fn owners(&self, workers: usize) -> Vec<u32> {
        let mut counts = vec![0usize; self.users.len()];
        self.train.iter().for_each(|rating| counts[rating.user as usize] += 1);
        let mut before = 0;
        let owner = |&count: &usize| {
            let middle = before + count / 2;
            before += count;
            ((middle * workers) / self.train.len().max(1)).min(workers - 1) as u32
        };
        counts.iter().map(owner).collect()
    }
}

fn number(ids: impl Iterator<Item = u64>) -> (Vec<u64>, BTreeMap<u64, u32>) {
    let mut places: BTreeMap<u64, u32> = ids.map(|id| (id, 0)).collect();
    places.values_mut().zip(0..).for_each(|(place, number)| *place = number);
    (places.keys().copied().collect(), places)
}

/// One line; the column and what was expected there if it is not one.
fn parse(line: &str) -> Result<(u64, u64, f32), (u64, &'static str)> {
    let mut at = 1;
    let mut fields = line.trim_end().split(',').map(|field| {
        let column = at;
        at += field.len() as u64 + 1;
        (column, field.trim())
    });
    let mut next = || fields.next().unwrap_or((line.len() as u64 + 1, ""));
    let id = |(column, field): (u64, &str)| field.parse().map_err(|_| (column, "an id, a whole number"));
    let (user, item) = (id(next())?, id(next())?);
    let (column, field) = next();
    let value = field.parse().ok().filter(|value: &f32| value.is_finite());
    Ok((user, item, value.ok_or((column, "a rating, a finite number"))?))
}
