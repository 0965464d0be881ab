//! Reads values of TOML. It tells which key is wrong, and never the value, which may be a secret in the wrong
//! place.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue};

use super::{join, spelled};

/// What is wrong with the value of a key.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) key: String,
    pub(super) what: String,
}

impl Fault {
    fn new(what: impl Into<String>) -> Self {
        Fault { key: String::new(), what: what.into() }
    }

    fn under(self, name: &str) -> Self {
        Fault { key: join(name, &self.key), what: self.what }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.what)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Fault::new(what.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Fault::new(format!("is of another type; set {expected}"))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Fault::new(format!("is out of range; set {expected}"))
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Fault::new(format!("has another length; set {expected}"))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Fault::new(format!("is unknown; set {}", one_of(expected)))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Fault::new(format!("is unknown; the keys are {}", expected.join(", "))).under(&spelled(field))
    }

    fn missing_field(field: &'static str) -> Self {
        Fault::new("is missing; add it").under(field)
    }
}

fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// The key that chooses between variants with settings of their own.
const KIND: &str = "kind";

/// Reads a value. A table is read as an enum by its key `kind`.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    value: &'a DeValue<'a>,
    /// Whether `kind` has been read already.
    within_kind: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(value: &'a DeValue<'a>) -> Self {
        Reader { value, within_kind: false }
    }

    fn table(self) -> Result<&'a DeTable<'a>, Fault> {
        match self.value {
            DeValue::Table(table) => Ok(table),
            _ => Err(Fault::new("is no table; set its keys instead")),
        }
    }

    fn array(self) -> Result<&'a DeArray<'a>, Fault> {
        match self.value {
            DeValue::Array(array) => Ok(array),
            _ => Err(Fault::new("is no list; set [VALUE, …]")),
        }
    }

    fn whole<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let DeValue::Integer(number) = self.value else {
            return Err(Fault::new("is no whole number; set one, without quotes"));
        };
        read_whole(number, visitor).map_err(|_| {
            Fault::new(match number.as_str() {
                "0" => "is 0; set 1 or more",
                text if text.starts_with('-') => "is below 0; set 0 or more",
                _ => "is too large; set a smaller number",
            })
        })
    }

    fn number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            DeValue::Integer(_) | DeValue::Float(_) => self.deserialize_any(visitor),
            _ => Err(Fault::new("is no number; set one, without quotes")),
        }
    }
}

fn read_whole<'de, V: Visitor<'de>>(number: &DeInteger<'_>, visitor: V) -> Result<V::Value, Fault> {
    if let Ok(number) = i64::from_str_radix(number.as_str(), number.radix()) {
        return visitor.visit_i64(number);
    }
    match u64::from_str_radix(number.as_str(), number.radix()) {
        Ok(number) => visitor.visit_u64(number),
        Err(_) => Err(Fault::new("is too large; set a smaller number")),
    }
}

macro_rules! forward {
    ($($deserialize:ident)* => $read:ident) => {
        $(fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.$read(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            DeValue::String(text) => visitor.visit_str(text),
            DeValue::Integer(number) => read_whole(number, visitor),
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(number) => visitor.visit_f64(number),
                Err(_) => Err(Fault::new("is no number; set one")),
            },
            DeValue::Boolean(value) => visitor.visit_bool(*value),
            DeValue::Datetime(_) => Err(Fault::new("is a date; put it in quotes")),
            DeValue::Array(array) => visitor.visit_seq(Elements(array.iter().enumerate())),
            DeValue::Table(table) => visitor.visit_map(Entries {
                entries: table.iter(),
                value: None,
                within_kind: self.within_kind,
            }),
        }
    }

    forward! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 => whole
    }
    forward! { deserialize_f32 deserialize_f64 => number }
    forward! { deserialize_str deserialize_identifier => deserialize_string }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            DeValue::String(text) => visitor.visit_str(text),
            _ => Err(Fault::new("is no text; put it in quotes")),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            DeValue::Boolean(value) => visitor.visit_bool(*value),
            _ => Err(Fault::new("is no switch; set true or false, without quotes")),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_seq(Elements(self.array()?.iter().enumerate()))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Fault> {
        match self.array()?.len() {
            given if given == length => self.deserialize_seq(visitor),
            given => Err(Fault::new(format!("has {given} values; set {length}"))),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.table()?;
        self.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let known = |text: &str| variants.iter().find(|variant| **variant == text).copied();
        let unknown = || Fault::new(format!("is unknown; set {}", one_of(variants)));
        match self.value {
            DeValue::String(text) => {
                let variant: StrDeserializer<'_, Fault> =
                    known(text).ok_or_else(unknown)?.into_deserializer();
                // All that can be wrong with it now is that the variant has settings.
                visitor.visit_enum(variant).map_err(|_| Fault::new(format!("is no table; set its {KIND}")))
            }
            DeValue::Table(table) => {
                let kind = match table.get(KIND).map(Spanned::get_ref) {
                    Some(DeValue::String(kind)) => known(kind).ok_or_else(unknown),
                    Some(_) => Err(unknown()),
                    None => Err(Fault::new(format!("is missing; set {}", one_of(variants)))),
                };
                let kind = kind.map_err(|fault| fault.under(KIND))?;
                visitor.visit_enum(Kind { kind, settings: Reader { within_kind: true, ..self } })
            }
            _ => Err(unknown()),
        }
    }

    forward_to_deserialize_any! { char bytes byte_buf unit unit_struct tuple_struct ignored_any }
}

struct Elements<'a>(std::iter::Enumerate<std::slice::Iter<'a, Spanned<DeValue<'a>>>>);

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some((i, value)) = self.0.next() else { return Ok(None) };
        seed.deserialize(Reader::new(value.get_ref()))
            .map(Some)
            .map_err(|fault| fault.under(&format!("[{i}]")))
    }
}

type Entry<'a> = (&'a Spanned<toml::de::DeString<'a>>, &'a Spanned<DeValue<'a>>);

struct Entries<'a, I> {
    entries: I,
    value: Option<Entry<'a>>,
    within_kind: bool,
}

impl<'a, 'de, I: Iterator<Item = Entry<'a>>> MapAccess<'de> for Entries<'a, I> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let within_kind = self.within_kind;
        self.value = self.entries.find(|(name, _)| !(within_kind && name.get_ref() == KIND));
        let Some((name, _)) = self.value else { return Ok(None) };
        let name: StrDeserializer<'_, Fault> = name.get_ref().as_ref().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some((name, value)) = self.value.take() else {
            return Err(Fault::new("has no value"));
        };
        seed.deserialize(Reader::new(value.get_ref())).map_err(|fault| fault.under(&spelled(name.get_ref())))
    }
}

/// A variant, and the table of its settings.
struct Kind<'a> {
    kind: &'static str,
    settings: Reader<'a>,
}

impl<'a, 'de> EnumAccess<'de> for Kind<'a> {
    type Error = Fault;
    type Variant = Reader<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Reader<'a>), Fault> {
        let kind: StrDeserializer<'_, Fault> = self.kind.into_deserializer();
        Ok((seed.deserialize(kind)?, self.settings))
    }
}

impl<'de> VariantAccess<'de> for Reader<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_struct("", fields, visitor)
    }
}
