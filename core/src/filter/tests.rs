use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

type Map = BTreeMap<String, String>;

#[derive(serde::Deserialize)]
struct Answers {
    properties: Vec<Map>,
    /// An expression, and `refused`, `trailing` (read to the end of its first expression), or a letter for each of the
    /// properties: true, false, null, error.
    expressions: Vec<(String, String)>,
}

fn letter(expression: &Expression, properties: &Map) -> char {
    match expression.evaluate(|name| properties.get(name).map(String::as_str)) {
        Ok(Some(true)) => 'T',
        Ok(Some(false)) => 'F',
        Ok(None) => 'N',
        Err(NotComparable) => 'E',
    }
}

#[test]
fn expressions_are_read_and_evaluated_as_java_does() {
    let text = include_str!("../../../tests/golden/known-answers/sql92.json");
    let answers: Answers = serde_json::from_str(text).expect("the file is a list of answers");
    assert!(answers.expressions.len() > 1_000);
    for (text, answer) in &answers.expressions {
        let ours = Expression::parse(text);
        match answer.as_str() {
            "refused" => assert!(ours.is_err(), "{text:?} is read as {ours:?}"),
            // A line comment without an end of line is the one that we read as it was meant.
            "trailing" => assert_eq!(ours.is_ok(), text.ends_with("-- tail"), "{text:?}"),
            _ => {
                let ours = ours.unwrap_or_else(|error| panic!("{text:?}: {error}"));
                let letters: String = answers.properties.iter().map(|map| letter(&ours, map)).collect();
                assert_eq!(&letters, answer, "{text:?}");
            }
        }
    }
}

#[test]
fn an_error_names_the_character() {
    let cases = [
        ("", 1, "expected a property"),
        ("a = 'é' AND", 12, "expected a property"),
        ("a = 'é' ? b", 9, "no part of an expression"),
        ("a = 'open", 5, "does not end"),
        ("a = 1 b", 7, "has ended"),
        ("a = 007", 6, "has ended"),
        ("a BETWEEN 5 AND 1", 11, "above the upper"),
        ("a > 'x'", 5, "greater or less"),
        ("1", 1, "boolean"),
        ("9223372036854775808 = a", 1, "9223372036854775807"),
        ("a > 0.0", 5, "too small"),
    ];
    for (text, character, what) in cases {
        let error = Expression::parse(text).expect_err(text);
        assert_eq!(error.character, character, "{text}: {error}");
        assert!(error.to_string().contains(what), "{text}: {error}");
    }
}

#[test]
fn height_and_length_are_bounded_and_long_lists_are_not_high() {
    let nested = |levels: usize| format!("{}a IS NULL{}", "(".repeat(levels), ")".repeat(levels));
    assert!(Expression::parse(&nested(HEIGHT_MAX - 1)).is_ok());
    assert!(Expression::parse(&nested(HEIGHT_MAX)).is_err());
    for word in ["NOT ", "- ", "+ ", "("] {
        let error = Expression::parse(&word.repeat(16_000)).expect_err(word);
        assert!(error.what.contains("levels"), "{word}: {error}");
    }
    let chain = format!("a{}", " = 1".repeat(10_000));
    assert!(Expression::parse(&chain).is_err());
    // A chain in brackets in a chain: each is short, together they are high.
    let mut text = "a".to_owned();
    for _ in 0..10 {
        text = format!("({text}{})", " IS NULL".repeat(10));
    }
    assert!(Expression::parse(&text).is_err());
    let long = format!("a = 1{}", " OR a = 1".repeat(5_000));
    assert!(Expression::parse(&long).expect("one level").matches(|_| Some("1")));
    assert!(Expression::parse(&format!("{long}{}", " ".repeat(TEXT_BYTES_MAX))).is_err());
}

/// Text and value of an expression, made together: the value by the rules as they stand in a book about SQL.
#[derive(Clone, Debug)]
struct Known {
    text: String,
    truth: Option<bool>,
}

fn known(text: impl Into<String>, truth: Option<bool>) -> Known {
    Known { text: text.into(), truth }
}

/// Of these, `n` is 5, `s` is "xyz", and `m` is missing.
const PROPERTIES: [(&str, &str); 2] = [("n", "5"), ("s", "xyz")];

fn leaf() -> impl Strategy<Value = Known> {
    let number = (-20i64..20).prop_flat_map(|k| {
        prop::sample::select(vec![
            known(format!("n > {k}"), Some(5 > k)),
            known(format!("n >= {k}"), Some(5 >= k)),
            known(format!("n < {k}"), Some(5 < k)),
            known(format!("n <= {k}"), Some(5 <= k)),
            known(format!("n = {k}"), Some(5 == k)),
            known(format!("n <> {k}"), Some(5 != k)),
            known(format!("n BETWEEN {k} AND {}", k + 9), Some(k <= 5 && 5 <= k + 9)),
            known(format!("n NOT BETWEEN {k} AND {}", k + 9), Some(5 < k || 5 > k + 9)),
            known(format!("m > {k}"), None),
            known(format!("NOT (m = {k})"), None),
        ])
    });
    let text = "[x-z']{0,3}".prop_flat_map(|part| {
        let quoted = format!("'{}'", part.replace('\'', "''"));
        prop::sample::select(vec![
            known(format!("s = {quoted}"), Some(part == "xyz")),
            known(format!("s IN ({quoted}, 'q')"), Some(part == "xyz")),
            known(format!("s not in ('q',{quoted})"), Some(part != "xyz")),
            known(format!("m IN ({quoted})"), None),
            known(format!("s CONTAINS {quoted}"), Some(!part.is_empty() && "xyz".contains(&part))),
            known(format!("s NOT STARTSWITH {quoted}"), Some(!part.is_empty() && !"xyz".starts_with(&part))),
            known("m IS NULL", Some(true)),
            known("s IS NOT NULL", Some(true)),
            known("TRUE", Some(true)),
            known("false", Some(false)),
            known("NULL", None),
        ])
    });
    prop_oneof![number, text]
}

fn and(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    match (left, right) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

fn tree() -> impl Strategy<Value = Known> {
    leaf().prop_recursive(5, 60, 3, |inner| {
        let both = (inner.clone(), inner.clone());
        prop_oneof![
            inner.prop_map(|one| known(format!("NOT ({})", one.text), one.truth.map(|truth| !truth))),
            both.clone().prop_map(|(left, right)| {
                known(format!("({}) AND ({})", left.text, right.text), and(left.truth, right.truth))
            }),
            both.prop_map(|(left, right)| {
                let not = |truth: Option<bool>| truth.map(|truth| !truth);
                let truth = not(and(not(left.truth), not(right.truth)));
                known(format!("/* or */ ({})\nOR\t({})", left.text, right.text), truth)
            }),
        ]
    })
}

fn property(name: &str) -> Option<&'static str> {
    PROPERTIES.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tree_has_the_value_that_it_was_made_with(known in tree()) {
        let expression = Expression::parse(&known.text).expect("it was written by the grammar");
        prop_assert_eq!(expression.evaluate(property), Ok(known.truth), "{}", known.text);
    }

    #[test]
    fn any_text_is_refused_or_read(text in ".{0,200}", value in ".{0,20}") {
        if let Ok(expression) = Expression::parse(&text) {
            let _ = expression.evaluate(|_| Some(value.as_str()));
        }
    }

    #[test]
    fn any_row_of_words_is_refused_or_read(
        words in prop::collection::vec(prop::sample::select(vec![
            "a", "n", "'x'", "''", "'", "1", "0", "5L", "2.5", "1e9", ".", "(", ")", ",", "=", "<>", "<", "<=", ">", ">=", "-", "+",
            "--", "/*", "*/", "NOT", "AND", "OR", "BETWEEN", "IN", "IS", "NULL", "TRUE", "FALSE", "CONTAINS", "STARTSWITH", "\n",
        ]), 0..40),
        value in "[-+0-9.eEdfNa ]{0,12}",
    ) {
        if let Ok(expression) = Expression::parse(&words.join(" ")) {
            let _ = expression.evaluate(|_| Some(value.as_str()));
        }
    }
}
