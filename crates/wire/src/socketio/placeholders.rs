//! Checks that every placeholder of a binary packet names an attachment.
//!
//! Owns: what a placeholder is. Must not know: the attachments themselves.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{error::Category, value::RawValue};

use super::Malformed;

/// Checks the data of a packet with so many attachments.
///
/// Half a surrogate pair is legal JSON but keeps the check from reading on: then it is not made. Whoever
/// follows a placeholder looks the attachment up and does not index.
pub(super) fn check(data: &RawValue, attachments: usize) -> Result<(), Malformed> {
    let mut reader = serde_json::Deserializer::from_str(data.get());
    match (Scan { attachments }).deserialize(&mut reader) {
        Err(error) if error.classify() == Category::Data => Err(Malformed("illegal attachments")),
        _ => Ok(()),
    }
}

/// As much of a value as matters to the object around it.
#[derive(PartialEq)]
enum Seen {
    True,
    Index(u64),
    Other,
}

#[derive(Clone, Copy)]
struct Scan {
    attachments: usize,
}

impl<'de> DeserializeSeed<'de> for Scan {
    type Value = Seen;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Seen, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Scan {
    type Value = Seen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON whose placeholders name attachments")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Seen, E> {
        Ok(if value { Seen::True } else { Seen::Other })
    }

    fn visit_u64<E>(self, value: u64) -> Result<Seen, E> {
        Ok(Seen::Index(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_unit<E>(self) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Seen, A::Error> {
        while items.next_element_seed(self)?.is_some() {}
        Ok(Seen::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Seen, A::Error> {
        let (mut placeholder, mut index) = (Seen::Other, Seen::Other);
        while let Some(name) = members.next_key::<Name>()? {
            let value = members.next_value_seed(self)?;
            match name {
                Name::Placeholder => placeholder = value,
                Name::Number => index = value,
                Name::Other => {}
            }
        }
        let named =
            matches!(index, Seen::Index(at) if usize::try_from(at).is_ok_and(|at| at < self.attachments));
        if placeholder == Seen::True && !named {
            return Err(A::Error::custom("illegal attachments"));
        }
        Ok(Seen::Other)
    }
}

/// A member's name, as far as it matters.
enum Name {
    Placeholder,
    Number,
    Other,
}

impl<'de> serde::Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Name;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_str<E>(self, name: &str) -> Result<Name, E> {
                Ok(match name {
                    "_placeholder" => Name::Placeholder,
                    "num" => Name::Number,
                    _ => Name::Other,
                })
            }
        }
        reader.deserialize_str(Reader)
    }
}
