//! One numbering of texts for a query, over sources that each have their own.

use crate::texts::{NO_TEXT, TextList, TextNumber, Texts};

/// Turns the text numbers of one source into those of the query.
pub(super) struct Numbers<'a> {
    /// The query's.
    texts: &'a mut Texts,
    /// The source's texts, and by their number the query's number so far as it was asked for. `None` if the source
    /// uses the query's numbers.
    source: Option<(&'a TextList, &'a mut Vec<TextNumber>)>,
}

impl<'a> Numbers<'a> {
    pub(super) fn of_memory(
        texts: &'a mut Texts,
        list: &'a TextList,
        known: &'a mut Vec<TextNumber>,
    ) -> Self {
        known.resize(list.len(), NO_TEXT);
        Self {
            texts,
            source: Some((list, known)),
        }
    }

    pub(super) fn of_query(texts: &'a mut Texts) -> Self {
        Self {
            texts,
            source: None,
        }
    }

    pub(super) fn number(&mut self, number: TextNumber) -> TextNumber {
        let Some((list, known)) = &mut self.source else {
            return number;
        };
        let (Some(known), Some(text)) = (known.get_mut(number as usize), list.get(number)) else {
            return NO_TEXT;
        };
        if *known == NO_TEXT {
            *known = self.texts.number(text);
        }
        *known
    }
}
