//! Nothing but tests: each file in `tests/cases` is a mistake, its `.stderr` the answer.
