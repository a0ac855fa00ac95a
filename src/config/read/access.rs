//! The parts of a node, one after the other, as serde asks for them.

use std::slice::Iter;

use serde::de::value::{StrDeserializer, U32Deserializer};
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::error::ReadError;
use super::node::NodeReader;
use crate::config::tree::{Entry, Node};

/// The items of a list.
pub(super) struct Items<'n, O> {
    pub(super) items: Iter<'n, Node>,
    pub(super) owner: O,
}

impl<'n> SeqAccess<'n> for Items<'n, NodeReader<'_, 'n>> {
    type Error = ReadError;

    fn next_element_seed<S: DeserializeSeed<'n>>(&mut self, seed: S) -> Result<Option<S::Value>, ReadError> {
        let Some(node) = self.items.next() else { return Ok(None) };
        let trail = self.owner.trail.item(node);
        seed.deserialize(NodeReader { node, key: node.place, trail, reader: self.owner.reader }).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// The entries of a mapping. Keys that the struct does not have are recorded and passed over.
pub(super) struct MapEntries<'r, 'n> {
    entries: Iter<'n, Entry>,
    current: Option<&'n Entry>,
    /// The fields of a struct; `None` for a map, which takes any key.
    fields: Option<&'static [&'static str]>,
    owner: NodeReader<'r, 'n>,
}

impl<'r, 'n> MapEntries<'r, 'n> {
    pub(super) fn new(
        entries: &'n [Entry],
        fields: Option<&'static [&'static str]>,
        owner: NodeReader<'r, 'n>,
    ) -> MapEntries<'r, 'n> {
        MapEntries { entries: entries.iter(), current: None, fields, owner }
    }

    fn next_known(&mut self) -> Option<&'n Entry> {
        let NodeReader { node, reader, trail, .. } = &self.owner;
        for entry in self.entries.by_ref().filter(|entry| !reader.is_skipped(entry.place)) {
            match self.fields {
                Some(fields) if !fields.contains(&&*entry.key) => {
                    reader.unknown_key(entry, node.place, trail, fields);
                }
                _ => return Some(entry),
            }
        }
        None
    }
}

impl<'n> MapAccess<'n> for MapEntries<'_, 'n> {
    type Error = ReadError;

    fn next_key_seed<S: DeserializeSeed<'n>>(&mut self, seed: S) -> Result<Option<S::Value>, ReadError> {
        let Some(entry) = self.next_known() else { return Ok(None) };
        self.current = Some(entry);
        let key = seed.deserialize(StrDeserializer::<ReadError>::new(&entry.key));
        key.map(Some).map_err(|error| {
            self.owner.reader.skip(entry.place);
            error.at(entry.place, || self.owner.trail.describe())
        })
    }

    fn next_value_seed<S: DeserializeSeed<'n>>(&mut self, seed: S) -> Result<S::Value, ReadError> {
        let Some(entry) = self.current.take() else {
            return Err(ReadError::Bare("a value was asked for before its key".to_owned(), None));
        };
        let reader = self.owner.reader;
        let trail = self.owner.trail.key(&entry.key);
        seed.deserialize(NodeReader { node: &entry.node, key: entry.place, trail, reader })
            .inspect_err(|_| reader.skip(entry.place))
    }
}

/// A place, as six numbers, and then the value: what [`At`](crate::config::located::At) asks for.
pub(super) struct AtAccess<'r, 'n> {
    numbers: std::array::IntoIter<u32, 6>,
    node: NodeReader<'r, 'n>,
}

impl<'r, 'n> AtAccess<'r, 'n> {
    pub(super) fn new(node: NodeReader<'r, 'n>) -> AtAccess<'r, 'n> {
        let (place, key) = (node.node.place, node.key);
        let numbers = [place.line, place.column, place.length, key.line, key.column, key.length];
        AtAccess { numbers: numbers.into_iter(), node }
    }
}

impl<'n> SeqAccess<'n> for AtAccess<'_, 'n> {
    type Error = ReadError;

    fn next_element_seed<S: DeserializeSeed<'n>>(&mut self, seed: S) -> Result<Option<S::Value>, ReadError> {
        if let Some(number) = self.numbers.next() {
            return seed.deserialize(U32Deserializer::new(number)).map(Some);
        }
        match seed.deserialize(self.node.clone()) {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                self.node.reader.record(error);
                Ok(None)
            }
        }
    }
}

/// An enum's variant with what belongs to it: a mapping of one key.
pub(super) struct Variant<'r, 'n> {
    pub(super) entry: &'n Entry,
    pub(super) owner: NodeReader<'r, 'n>,
}

impl<'r, 'n> Variant<'r, 'n> {
    fn content(self) -> NodeReader<'r, 'n> {
        let trail = self.owner.trail.key(&self.entry.key);
        NodeReader { node: &self.entry.node, key: self.entry.place, trail, reader: self.owner.reader }
    }
}

impl<'n> EnumAccess<'n> for Variant<'_, 'n> {
    type Error = ReadError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'n>>(self, seed: S) -> Result<(S::Value, Self), ReadError> {
        let variant = seed.deserialize(StrDeserializer::<ReadError>::new(&self.entry.key));
        Ok((variant.map_err(|error| error.at(self.entry.place, String::new))?, self))
    }
}

impl<'n> VariantAccess<'n> for Variant<'_, 'n> {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        serde::Deserialize::deserialize(self.content())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'n>>(self, seed: S) -> Result<S::Value, ReadError> {
        seed.deserialize(self.content())
    }

    fn tuple_variant<V: Visitor<'n>>(self, _: usize, visitor: V) -> Result<V::Value, ReadError> {
        self.content().deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'n>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.content().deserialize_struct("", fields, visitor)
    }
}
