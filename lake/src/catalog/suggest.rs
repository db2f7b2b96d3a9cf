//! Near names, for errors about names that do not exist.

/// How many names are suggested at most.
const MAX_SUGGESTIONS: usize = 3;

/// The end of an error about a name that does not exist: `; did you mean a or b?`, or nothing.
pub fn hint<I>(name: &str, candidates: I) -> String
where
    I: IntoIterator,
    I::Item: AsRef<str>,
{
    hint_of(&suggest(name, candidates))
}

/// As [`hint`], of names that were found.
pub fn hint_of(near: &[String]) -> String {
    match near.is_empty() {
        true => String::new(),
        false => format!("; did you mean {}?", near.join(" or ")),
    }
}

/// The candidates that look like `name`, nearest first: the same letters in another case, a
/// few typing slips away, or beginning with what was typed.
pub fn suggest<I>(name: &str, candidates: I) -> Vec<String>
where
    I: IntoIterator,
    I::Item: AsRef<str>,
{
    let wanted = name.to_lowercase();
    let slips = (wanted.chars().count() / 3).max(1);
    let mut near: Vec<(usize, String)> = candidates
        .into_iter()
        .filter_map(|candidate| {
            let candidate = candidate.as_ref();
            let folded = candidate.to_lowercase();
            let distance = strsim::damerau_levenshtein(&wanted, &folded);
            let begins = wanted.chars().count() >= 3 && folded.starts_with(&wanted);
            (distance <= slips || begins).then(|| (distance, candidate.to_owned()))
        })
        .collect();
    near.sort();
    near.dedup();
    near.into_iter()
        .take(MAX_SUGGESTIONS)
        .map(|(_, candidate)| candidate)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_case_and_prefixes_are_found_and_strangers_are_not() {
        let tables = ["lineitem", "orders", "LineItem", "customer", "nation"];
        assert_eq!(suggest("lineitm", tables), ["LineItem", "lineitem"]);
        assert_eq!(suggest("odrers", tables), ["orders"]);
        assert_eq!(suggest("CUSTOMER", tables), ["customer"]);
        assert_eq!(suggest("cust", tables), ["customer"]);
        assert!(suggest("region", ["lineitem", "orders"]).is_empty());
        assert!(suggest("x", ["lineitem"]).is_empty());
    }
}
