//! Whether answers are what the OpenAPI document says: status, type and schema, by as much of JSON Schema as the document uses.

use serde_json::Value;

use super::client::{Answer, Client};

/// The description of a server.
pub struct Description(Value);

impl Description {
    pub fn of(client: &Client) -> Self {
        Self(client.get("/openapi.json").of(200))
    }

    /// Every operation as its method and path.
    pub fn operations(&self) -> Vec<(String, String)> {
        let paths = self.0["paths"].as_object().unwrap();
        let of_path = |(path, item): (&String, &Value)| {
            let methods: Vec<String> =
                item.as_object().unwrap().keys().map(|key| key.to_uppercase()).collect();
            methods.into_iter().map(|method| (method, path.clone())).collect::<Vec<_>>()
        };
        paths.iter().flat_map(of_path).collect()
    }

    /// Asserts that `answer` is one that the operation may give.
    #[track_caller]
    pub fn check(&self, method: &str, path: &str, answer: &Answer) {
        let operation = &self.0["paths"][path][method.to_lowercase()];
        assert!(operation.is_object(), "{method} {path} is not described");
        let response = self.resolved(&operation["responses"][answer.status.to_string()]);
        assert!(response.is_object(), "{method} {path}: status {} is not described", answer.status);
        let Some(content) = response["content"].as_object() else {
            assert!(answer.body.is_empty(), "{method} {path}: a body is not described");
            return;
        };
        let kind = answer.header("content-type").unwrap().split(';').next().unwrap();
        let described = content.get(kind);
        let schema =
            &described.unwrap_or_else(|| panic!("{method} {path}: {kind} is not described"))["schema"];
        if kind == "application/json" {
            let value = serde_json::from_slice(&answer.body).unwrap();
            self.validate(schema, &value).unwrap_or_else(|why| panic!("{method} {path}: {why} in {value}"));
        }
    }

    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(pointer) => self.0.pointer(pointer.trim_start_matches('#')).unwrap(),
            None => value,
        }
    }

    fn validate(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let schema = self.resolved(schema);
        let wrong = |what: &str| Err(format!("{value} is not {what} of {schema}"));
        if let Some(choices) = schema["oneOf"].as_array() {
            let fitting = choices.iter().filter(|choice| self.validate(choice, value).is_ok()).count();
            return if fitting == 1 { Ok(()) } else { wrong("one") };
        }
        if schema.get("const").is_some_and(|only| only != value) {
            return wrong("the value");
        }
        if schema["enum"].as_array().is_some_and(|allowed| !allowed.contains(value)) {
            return wrong("a value");
        }
        let is = |kind: &Value| match kind.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "number" => value.is_number(),
            "integer" => value.is_u64() || value.is_i64(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            other => panic!("the type {other} is not known here"),
        };
        match &schema["type"] {
            Value::Null => {}
            Value::Array(kinds) if kinds.iter().any(is) => {}
            Value::Array(_) => return wrong("a type"),
            kind if is(kind) => {}
            _ => return wrong("the type"),
        }
        let number = value.as_f64();
        if number.zip(schema["minimum"].as_f64()).is_some_and(|(number, least)| number < least)
            || number.zip(schema["maximum"].as_f64()).is_some_and(|(number, most)| number > most)
        {
            return wrong("in the range");
        }
        if let Some(fields) = value.as_object() {
            let known = schema["properties"].as_object();
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !fields.contains_key(name) {
                    return Err(format!("{name} is missing"));
                }
            }
            for (name, field) in fields {
                match known.and_then(|known| known.get(name)) {
                    Some(schema) => self.validate(schema, field)?,
                    None if schema["additionalProperties"] == false => {
                        return Err(format!("{name} is not described"));
                    }
                    None => {}
                }
            }
        }
        value.as_array().into_iter().flatten().try_for_each(|item| self.validate(&schema["items"], item))
    }
}
