use super::*;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;

#[test]
fn the_dialect_is_read() {
    let cases = [
        (r#"{0:"a",1:"b"}"#, json!({"0": "a", "1": "b"})),
        (
            r#"{{"topic":"T","brokerName":"b","queueId":0}:5}"#,
            json!({r#"{"brokerName":"b","queueId":0,"topic":"T"}"#: 5}),
        ),
        ("{'a':'it\\'s',}", json!({"a": "it's"})),
        ("[1,2,]", json!([1, 2])),
        ("{\"a\":\"x\u{1}y\"}\n", json!({"a": "x\u{1}y"})),
        (r#""\x41\v\7""#, json!("A\u{b}\u{7}")),
        (r#""\ud83d\ude80 \ud83d \ude80""#, json!("🚀 \u{fffd} \u{fffd}")),
    ];
    for (text, value) in cases {
        assert_eq!(parse(text.as_bytes()), Ok(value), "{text}");
    }
    assert_eq!(parse(b"\"\xff\""), Ok(json!("\u{fffd}")));
}

#[test]
fn nulls_can_be_left_out() {
    let text = br#"{"a":null,"b":[null],"c":{"d":null}}"#;
    assert_eq!(parse_without_nulls(text), Ok(json!({"b": [null], "c": {}})));
    assert_eq!(parse(text), Ok(json!({"a": null, "b": [null], "c": {"d": null}})));
}

#[test]
fn an_error_says_where() {
    let cases = [
        ("", 0, JsonProblem::Ends),
        ("{\"a\":", 5, JsonProblem::Ends),
        ("{\"a\" 1}", 5, JsonProblem::Expected("a colon")),
        ("[1 2]", 3, JsonProblem::Expected("a comma or a closing bracket")),
        ("tru", 0, JsonProblem::Ends),
        ("1 1", 2, JsonProblem::Trailing),
        ("[012]", 1, JsonProblem::Number),
        (r#""\q""#, 2, JsonProblem::Escape),
    ];
    for (text, at, problem) in cases {
        assert_eq!(parse(text.as_bytes()), Err(JsonError { at, problem }), "{text}");
    }
}

#[test]
fn depth_and_count_are_bounded() {
    let deep = "[".repeat(100_000);
    assert_eq!(parse(deep.as_bytes()).unwrap_err().problem, JsonProblem::Depth);
    let keys = "{".repeat(100_000);
    assert_eq!(parse(keys.as_bytes()).unwrap_err().problem, JsonProblem::Depth);
    let many = format!("[{}0]", "0,".repeat(VALUES_MAX));
    assert_eq!(parse(many.as_bytes()).unwrap_err().problem, JsonProblem::Values);
}

#[test]
fn java_layout_has_bare_integer_keys_and_tabs() {
    let table = BTreeMap::from([("T@G", BTreeMap::from([(0, 12_i64), (1, 3)])), ("", BTreeMap::new())]);
    assert_eq!(to_java(&table, Layout::Compact), br#"{"":{},"T@G":{0:12,1:3}}"#);
    assert_eq!(to_java(&table, Layout::Tabs), b"{\n\t\"\":{},\n\t\"T@G\":{\n\t\t0:12,\n\t\t1:3\n\t}\n}");
    let texts = BTreeMap::from([("1", vec!["\"\u{1}"]), ("\n", vec![])]);
    assert_eq!(to_java(&texts, Layout::Compact), br#"{"\n":[],"1":["\"\u0001"]}"#);
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn standard_json_reads_as_serde_json_reads_it(value in any_value(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        prop_assert_eq!(parse(text.as_bytes()), Ok(serde_json::from_str(&text).unwrap()));
        prop_assert_eq!(parse(&to_java(&value, Layout::Tabs)), Ok(serde_json::from_str(&text).unwrap()));
        prop_assert_eq!(parse(&to_java(&value, Layout::Compact)), Ok(serde_json::from_str(&text).unwrap()));
    }

    #[test]
    fn whatever_serde_json_accepts_is_read_alike(text in r#"[\[\]{},:"0-9eE+.\\untrlfabs -]{0,40}"#) {
        if let Ok(value) = serde_json::from_str::<Value>(&text) {
            prop_assert_eq!(parse(text.as_bytes()), Ok(value));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }
}
