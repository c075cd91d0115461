//! Short texts kept in place.

use arrayvec::ArrayString;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

/// A text that does not change. Up to `N` bytes of it lie in place: a measurement has half a dozen texts, and to
/// allocate and free each would cost more than to read it.
#[derive(Clone)]
pub(crate) enum Text<const N: usize> {
    Short(ArrayString<N>),
    Long(Box<str>),
}

impl<const N: usize> Text<N> {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Short(text) => text,
            Self::Long(text) => text,
        }
    }
}

impl<const N: usize> From<&str> for Text<N> {
    fn from(text: &str) -> Self {
        match ArrayString::from(text) {
            Ok(short) => Self::Short(short),
            Err(_) => Self::Long(text.into()),
        }
    }
}

impl<const N: usize> PartialEq for Text<N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl<const N: usize> Eq for Text<N> {}

impl<const N: usize> PartialOrd for Text<N> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<const N: usize> Ord for Text<N> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

/// As `str` is hashed, since the ids made of it can be looked up by `&str`.
impl<const N: usize> Hash for Text<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::hash::{BuildHasher, RandomState};

    #[test]
    fn texts_that_fit_stay_in_place() {
        let longest = "x".repeat(40);
        assert!(matches!(Text::<40>::from(longest.as_str()), Text::Short(_)));
        assert!(matches!(
            Text::<40>::from((longest + "x").as_str()),
            Text::Long(_)
        ));
        assert_eq!(size_of::<Text<40>>(), 48);
        assert_eq!(size_of::<Text<24>>(), 32);
    }

    proptest! {
        #[test]
        fn behaves_as_the_text_it_holds(a in "[ab\u{e9}]{0,6}", b in "[ab\u{e9}]{0,6}") {
            let (short_or_long, other) = (Text::<4>::from(a.as_str()), Text::<4>::from(b.as_str()));
            prop_assert_eq!(short_or_long.as_str(), &a);
            prop_assert_eq!(short_or_long.cmp(&other), a.cmp(&b));
            prop_assert_eq!(short_or_long == other, a == b);
            let hashing = RandomState::new();
            prop_assert_eq!(hashing.hash_one(&short_or_long), hashing.hash_one(a.as_str()));
        }
    }
}
