//! Traits as JSON: `{"logins":["root"]}`, each name once.

use std::{collections::btree_map::Entry, fmt};

use serde::{Deserialize, Deserializer, de};

use crate::identity::Traits;

pub(crate) fn to_json(traits: &Traits) -> String {
    // Strings and lists of strings always have a JSON form.
    serde_json::to_string(traits).unwrap_or_default()
}

pub(crate) fn from_json(json: &str) -> Option<Traits> {
    serde_json::from_str::<Unique>(json).ok().map(|unique| unique.0)
}

/// serde_json keeps the last of two equal names; another reader might keep the first.
struct Unique(Traits);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Visitor)
    }
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = Unique;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of lists of strings")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Unique, A::Error> {
        let mut traits = Traits::new();
        while let Some((name, values)) = map.next_entry::<String, Vec<String>>()? {
            match traits.entry(name) {
                Entry::Vacant(free) => free.insert(values),
                Entry::Occupied(_) => return Err(de::Error::custom("a trait is there twice")),
            };
        }
        Ok(Unique(traits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trait_that_is_there_twice_is_refused() {
        assert_eq!(from_json(r#"{"logins":["a"],"logins":["root"]}"#), None);
        assert!(from_json(r#"{"logins":["a"]}"#).is_some());
    }
}
