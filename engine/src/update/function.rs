//! The trait of server functions.

use thiserror::Error;

use super::{Answer, CallView, Rows};
use crate::table::{CallError, Value};

/// How the pushes of several workers for one time become one update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    /// Their values are summed in worker order, and the function is applied once, to the sum.
    Sum,
    /// The function is applied to each of them, in worker order: for functions of which a sum is no sensible
    /// argument (assignment, maximum, minimum).
    Each,
    /// The function's own [`fold`](ServerFn::fold) is run over them in worker order, and the function is applied once,
    /// to what comes out.
    Fold,
}

/// Why a server function will not apply a push. The worker gets the text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct UpdateError(pub String);

/// What a push does to the rows it names. One value per table and shard, used by that shard's thread only; it may keep
/// state of its own, but state per row belongs into columns, which follow the rows wherever they go.
///
/// ```
/// use keyrange::table::Value;
/// use keyrange::update::{Rows, ServerFn, UpdateError};
///
/// /// Keeps in column 1 how often each value was pushed, and in column 0 the mean of the pushes.
/// struct Mean;
///
/// impl<V: Value> ServerFn<V> for Mean {
///     fn name(&self) -> &str {
///         "mean"
///     }
///     fn state_columns(&self) -> usize {
///         1
///     }
///     fn update(&mut self, rows: &mut Rows<'_, V>, parts: &[&[V]]) -> Result<(), UpdateError> {
///         rows.apply(|[mean, count]: [&mut [V]; 2]| {
///             for ((mean, count), &value) in mean.iter_mut().zip(count).zip(parts[0]) {
///                 *count += V::ONE;
///                 *mean += (value - *mean) / *count;
///             }
///         });
///         Ok(())
///     }
/// }
/// ```
pub trait ServerFn<V: Value>: Send {
    /// The name for messages to people.
    fn name(&self) -> &str;

    /// Value arrays that a push carries, for example 2 for a gradient and its curvature.
    fn push_parts(&self) -> usize {
        1
    }

    /// Columns of state beside column 0, the parameters.
    fn state_columns(&self) -> usize {
        0
    }

    /// What the values of a column are before the first push.
    fn initial(&self, column: usize) -> V {
        let _ = column;
        V::ZERO
    }

    /// How aggregated pushes are combined.
    fn combine(&self) -> Combine {
        Combine::Sum
    }

    /// What the arrays begin with that [`fold`](Self::fold) folds into.
    fn neutral(&self, part: usize) -> V {
        let _ = part;
        V::ZERO
    }

    /// Whether a row that a filter left out of a push may be taken for zeros. A shard refuses such a push otherwise.
    fn adds(&self) -> bool {
        match self.combine() {
            Combine::Sum => true,
            Combine::Each => false,
            Combine::Fold => (0..self.push_parts()).all(|part| self.neutral(part) == V::ZERO),
        }
    }

    /// Folds one worker's `parts` into what the workers before it came to: `sums[p]` and `parts[p]` have the same length.
    /// Only called with [`Combine::Fold`].
    ///
    /// # Errors
    /// Why the whole update is refused; it changes nothing then.
    fn fold(&mut self, sums: &mut [&mut [V]], parts: &[&[V]]) -> Result<(), UpdateError> {
        for (sum, part) in sums.iter_mut().zip(parts) {
            keyrange_kernels::dense::add(sum, part);
        }
        Ok(())
    }

    /// Updates the rows with the pushed values: `parts[p]` has one value for each value of a column of `rows`.
    ///
    /// # Errors
    /// Why the push is refused: its workers are told. A function that refuses does so before it changes a row, for nothing
    /// is undone.
    fn update(&mut self, rows: &mut Rows<'_, V>, parts: &[&[V]]) -> Result<(), UpdateError>;

    /// Sums `sources[part][worker]` and updates in one pass over memory, or returns false having done nothing; then
    /// the table sums first and calls [`update`](Self::update). Both ways must give the same bits. Only called with
    /// [`Combine::Sum`].
    fn update_fused(&mut self, rows: &mut Rows<'_, V>, sources: &[&[&[V]]]) -> bool {
        let _ = (rows, sources);
        false
    }

    /// Answers a call with a verb of the function's own.
    ///
    /// # Errors
    /// [`CallError::UnknownVerb`] unless overridden.
    fn call(&mut self, verb: &str, args: &[u8], view: &mut CallView<'_, V>) -> Result<Vec<u8>, CallError> {
        let _ = (args, view);
        Err(CallError::UnknownVerb { function: self.name().to_owned(), verb: verb.to_owned() })
    }

    /// As [`call`](Self::call), for functions whose answers lie elsewhere.
    ///
    /// # Errors
    /// As there.
    fn answer(&mut self, verb: &str, args: &[u8], view: &mut CallView<'_, V>) -> Result<Answer, CallError> {
        self.call(verb, args, view).map(Answer::from)
    }
}
