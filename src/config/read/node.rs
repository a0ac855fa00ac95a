//! One node as a serde deserializer.

use std::fmt::Display;

use serde::de::value::StrDeserializer;
use serde::de::{Deserializer, Visitor};

use super::access::{AtAccess, Items, MapEntries, Variant};
use super::error::ReadError;
use super::{Held, Reader};
use crate::config::located::{AT, ONE_OR_MANY, RAW};
use crate::config::place::Place;
use crate::config::scalar::Scalar;
use crate::config::shape;
use crate::config::trail::Trail;
use crate::config::tree::{Node, Style, Value};

#[derive(Clone)]
pub(crate) struct NodeReader<'r, 'n> {
    pub(crate) node: &'n Node,
    /// The key that holds the node; its own place for an item of a list.
    pub(crate) key: Place,
    pub(crate) trail: Trail,
    pub(crate) reader: &'r Reader<'n>,
}

impl<'n> NodeReader<'_, 'n> {
    fn placed(&self, error: ReadError) -> ReadError {
        error.at(self.node.place, || self.trail.describe())
    }

    fn mismatch(&self, expected: impl Display) -> ReadError {
        self.mismatch_meant(expected, None)
    }

    /// `meant` is the advice, where there is a better one than the value alone suggests.
    fn mismatch_meant(&self, expected: impl Display, meant: Option<String>) -> ReadError {
        if matches!(self.node.value, Value::Broken) {
            return ReadError::Silent;
        }
        let subject = self.trail.last_key().map_or(String::new(), |key| format!(" for `{key}`"));
        let (found, label) = self.found();
        self.placed(ReadError::Bare(format!("expected {expected}{subject}, found {found}"), meant.or(label)))
    }

    /// The node in words, and a word of advice.
    fn found(&self) -> (String, Option<String>) {
        match &self.node.value {
            Value::Mapping(_) => ("a mapping".to_owned(), None),
            Value::Sequence(_) => ("a list".to_owned(), None),
            Value::Scalar { text, style: Style::Plain } if Scalar::of(text) == Scalar::Null => {
                ("nothing".to_owned(), None)
            }
            Value::Scalar { text, style: Style::Plain } => (format!("`{text}`"), boolean_of_yaml_1_1(text)),
            Value::Scalar { text, style: Style::Quoted } if Scalar::of(text) != Scalar::Text => {
                (format!("the text `{text}`"), Some("write it without quotes".to_owned()))
            }
            Value::Scalar { text, .. } => (format!("the text `{text}`"), None),
            Value::Broken => ("nothing".to_owned(), None),
        }
    }

    fn integer(&self, least: i128, most: i128) -> Result<i128, ReadError> {
        match self.node.typed_scalar() {
            Some(Scalar::Integer(number)) if (least..=most).contains(&number) => Ok(number),
            Some(Scalar::Integer(number)) if least == 0 && number < 0 => {
                Err(self.mismatch("a whole number that is not negative"))
            }
            Some(Scalar::Integer(_)) => Err(self.mismatch(format!("a whole number up to {most}"))),
            _ => Err(self.mismatch("a whole number")),
        }
    }

    fn text(&self) -> Result<&'n str, ReadError> {
        match &self.node.value {
            Value::Scalar { text, .. } if !self.node.is_null() => Ok(text),
            _ => Err(self.mismatch("text")),
        }
    }

    fn items(self) -> Result<Items<'n, Self>, ReadError> {
        match &self.node.value {
            Value::Sequence(items) => Ok(Items { items: items.iter(), owner: self }),
            // A key with nothing behind it, as when all that stood there was commented out.
            _ if self.node.is_null() => Ok(Items { items: [].iter(), owner: self }),
            _ => Err(self.mismatch_meant("a list", shape::list(&self.trail, self.node))),
        }
    }

    fn map<V: Visitor<'n>>(self, fields: Option<&'static [&'static str]>, visitor: V) -> Result<V::Value, ReadError> {
        let entries = match &self.node.value {
            Value::Mapping(entries) => entries,
            // As in `items`.
            _ if self.node.is_null() => &[][..],
            _ => return Err(self.mismatch_meant("a mapping", shape::mapping(&self.trail, self.node))),
        };
        visitor.visit_map(MapEntries::new(entries, fields, self.clone())).map_err(|error| match error {
            // The key is there; that it could not be read was recorded when it was skipped.
            ReadError::MissingKey(key) if self.node.entry(key).is_some() => ReadError::Silent,
            ReadError::MissingKey(key) if self.reader.findings.is_guessed(self.node.place, key) => ReadError::Silent,
            error => self.placed(error),
        })
    }
}

/// `yes` and `on` were booleans in YAML 1.1, and still are to Go's parser.
fn boolean_of_yaml_1_1(text: &str) -> Option<String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "on" | "y" => Some("did you mean `true`?".to_owned()),
        "no" | "off" | "n" => Some("did you mean `false`?".to_owned()),
        _ => None,
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty;)*) => {
        $(fn $method<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, ReadError> {
            let number = self.integer(<$type>::MIN.into(), <$type>::MAX.into())?;
            // The range was checked in the line above.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            visitor.$visit(number as $type).map_err(|error: ReadError| self.placed(error))
        })*
    };
}

impl<'n> Deserializer<'n> for NodeReader<'_, 'n> {
    type Error = ReadError;

    integers! {
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
    }

    fn deserialize_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match (&self.node.value, self.node.scalar()) {
            (Value::Broken, _) => Err(ReadError::Silent),
            (Value::Sequence(_), _) => self.deserialize_seq(visitor),
            (Value::Mapping(_), _) => self.map(None, visitor),
            (_, Some(Scalar::Null)) => visitor.visit_unit().map_err(|error: ReadError| self.placed(error)),
            (_, Some(Scalar::Bool(value))) => visitor.visit_bool(value).map_err(|error: ReadError| self.placed(error)),
            (_, Some(Scalar::Integer(number))) if number < 0 => self.deserialize_i64(visitor),
            (_, Some(Scalar::Integer(_))) => self.deserialize_u64(visitor),
            (_, Some(Scalar::Float(value))) => visitor.visit_f64(value).map_err(|error: ReadError| self.placed(error)),
            (_, Some(Scalar::Text) | None) => self.deserialize_str(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.node.typed_scalar() {
            Some(Scalar::Bool(value)) => visitor.visit_bool(value).map_err(|error: ReadError| self.placed(error)),
            _ => Err(self.mismatch("`true` or `false`")),
        }
    }

    fn deserialize_f32<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, ReadError> {
        #[allow(clippy::cast_precision_loss, reason = "a whole number where a fraction is meant")]
        let value = match self.node.typed_scalar() {
            Some(Scalar::Float(value)) => value,
            Some(Scalar::Integer(number)) => number as f64,
            _ => return Err(self.mismatch("a number")),
        };
        visitor.visit_f64(value).map_err(|error: ReadError| self.placed(error))
    }

    fn deserialize_char<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    /// A number or a boolean where text is meant is its text as it was written, as Go's parser has it: `1.10` stays
    /// `1.10`.
    fn deserialize_str<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_borrowed_str(self.text()?).map_err(|error: ReadError| self.placed(error))
    }

    fn deserialize_string<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, ReadError> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, ReadError> {
        if self.node.is_null() { visitor.visit_unit() } else { Err(self.mismatch("nothing")) }
    }

    fn deserialize_unit_struct<V: Visitor<'n>>(self, _: &'static str, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'n>>(self, name: &'static str, visitor: V) -> Result<V::Value, ReadError> {
        match name {
            AT => visitor.visit_seq(AtAccess::new(self)),
            RAW => {
                let held = Held { node: self.node, trail: self.trail.clone() };
                visitor.visit_u64(self.reader.hold(held))
            }
            ONE_OR_MANY if matches!(self.node.value, Value::Mapping(_)) => {
                let items = std::slice::from_ref(self.node).iter();
                visitor.visit_seq(Items { items, owner: self })
            }
            ONE_OR_MANY => self.deserialize_seq(visitor),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_seq<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let this = self.clone();
        visitor.visit_seq(self.items()?).map_err(|error| this.placed(error))
    }

    fn deserialize_tuple<V: Visitor<'n>>(self, _: usize, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'n>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.map(None, visitor)
    }

    fn deserialize_struct<V: Visitor<'n>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.map(Some(fields), visitor)
    }

    fn deserialize_enum<V: Visitor<'n>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let this = self.clone();
        match (&self.node.value, self.node.entries()) {
            (Value::Scalar { text, .. }, _) => visitor.visit_enum(StrDeserializer::new(text)),
            (Value::Mapping(_), [entry]) => visitor.visit_enum(Variant { entry, owner: self }),
            _ => Err(self.mismatch("one word, or a mapping with one key")),
        }
        .map_err(|error| this.placed(error))
    }

    fn deserialize_identifier<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_unit()
    }
}
