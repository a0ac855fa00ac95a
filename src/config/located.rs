//! Field types that carry their place through serde.
//!
//! serde has no notion of a place, so the two types here ask the deserializer for one by a name that only
//! [`Reader`](super::read::Reader) knows. Everything between them and the reader is plain, derived serde.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use super::place::Place;

pub(crate) const AT: &str = "$weir::At";
pub(crate) const RAW: &str = "$weir::Raw";

/// A value with its place.
///
/// Reading one never fails: what is wrong with it is recorded, `value` is `None`, and the reading goes on, so that one
/// run shows every error.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    /// `None` when it could not be read.
    pub(crate) value: Option<T>,
    pub(crate) place: Place,
    /// The key that holds the value; its own place for an item of a list.
    pub(crate) key: Place,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<At<T>, D::Error> {
        deserializer.deserialize_newtype_struct(AT, AtVisitor(PhantomData))
    }
}

struct AtVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for AtVisitor<T> {
    type Value = At<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value with its place")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<At<T>, A::Error> {
        let mut place = || -> Result<Place, A::Error> {
            let mut number = || seq.next_element::<u32>()?.ok_or_else(|| A::Error::custom("no place"));
            Ok(Place { line: number()?, column: number()?, length: number()? })
        };
        let (place, key) = (place()?, place()?);
        Ok(At { value: seq.next_element()?, place, key })
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A part of the file whose type depends on a name beside it. The number is the reader's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw(pub(crate) usize);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        struct RawVisitor;
        impl Visitor<'_> for RawVisitor {
            type Value = Raw;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a node")
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Raw, E> {
                usize::try_from(number).map(Raw).map_err(E::custom)
            }
        }
        deserializer.deserialize_newtype_struct(RAW, RawVisitor)
    }
}

impl JsonSchema for Raw {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Raw".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "object" })
    }
}

/// A value that is accepted and has no effect. Anything may stand there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ignored;

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ignored, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Ignored)
    }
}

impl JsonSchema for Ignored {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Ignored".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "deprecated": true })
    }
}

/// One value where a list is meant, or the list.
#[derive(Clone, Debug)]
pub(crate) struct OneOrMany<T>(pub(crate) Vec<At<T>>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<OneOrMany<T>, D::Error> {
        deserializer.deserialize_newtype_struct(ONE_OR_MANY, ManyVisitor(PhantomData))
    }
}

pub(crate) const ONE_OR_MANY: &str = "$weir::OneOrMany";

struct ManyVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ManyVisitor<T> {
    type Value = OneOrMany<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one or a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<OneOrMany<T>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(OneOrMany(items))
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        schemars::json_schema!({ "if": { "type": "array" }, "then": { "items": one }, "else": one })
    }
}
