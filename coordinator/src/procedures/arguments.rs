//! The arguments of a call, by position or by name.

use std::collections::BTreeMap;

use datafusion::execution::session_state::SessionState;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use inshore_lake::TableName;
use inshore_lake::catalog::Catalogs;
use inshore_lake::version::TableVersion;

use crate::as_of::Evaluator;
use crate::names::{Position, Version};
use crate::versions::AsOf;
use crate::{Error, Result, ddl, files};

/// Arguments bound to the names in a signature: `name(a, b [, c] [, d])`.
pub struct Arguments<'a> {
    signature: &'static str,
    given: BTreeMap<&'static str, Expr>,
    catalogs: &'a Catalogs,
    home: (String, String),
    state: &'a SessionState,
}

/// The names of the parameters of a signature.
fn parameters(signature: &'static str) -> Vec<&'static str> {
    let inner = signature.split_once('(').map_or("", |(_, inner)| inner);
    let names = inner.split([',', '[', ']', ')', ' ']);
    names.filter(|name| !name.is_empty()).collect()
}

impl<'a> Arguments<'a> {
    /// Binds a call's arguments.
    ///
    /// # Errors
    /// [`Error::Sql`] with the signature.
    pub fn bind(
        call: &Function,
        signature: &'static str,
        catalogs: &'a Catalogs,
        home: &(String, String),
        state: &'a SessionState,
    ) -> Result<Self> {
        let wrong = |what: String| Error::Sql(format!("{what}; the procedure is {signature}"));
        let list = match &call.args {
            FunctionArguments::List(list) => list.args.as_slice(),
            FunctionArguments::None => &[],
            FunctionArguments::Subquery(_) => return Err(wrong("a query is no argument".into())),
        };
        let parameters = parameters(signature);
        let mut given = BTreeMap::new();
        for (at, argument) in list.iter().enumerate() {
            let (name, value) = match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => (parameters.get(at), value),
                FunctionArg::Named {
                    name,
                    arg: FunctionArgExpr::Expr(value),
                    ..
                } => {
                    let name = name.value.to_lowercase();
                    (parameters.iter().find(|known| **known == name), value)
                }
                _ => return Err(wrong(format!("argument {argument} is no value"))),
            };
            let name = name.ok_or_else(|| wrong(format!("argument {argument} is not known")))?;
            if given.insert(*name, value.clone()).is_some() {
                return Err(wrong(format!("argument {name} is given twice")));
            }
        }
        Ok(Self {
            signature,
            given,
            catalogs,
            home: home.clone(),
            state,
        })
    }

    fn wrong(&self, name: &str, wanted: &str) -> Error {
        Error::Sql(format!(
            "argument {name} must be {wanted}; the procedure is {}",
            self.signature
        ))
    }

    /// A text; none when it is not given.
    pub fn text(&self, name: &str) -> Result<Option<String>> {
        let Some(value) = self.given.get(name) else {
            return Ok(None);
        };
        let text = match value {
            Expr::Value(value) => value.value.clone().into_string(),
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => Some(value.to_string()),
            _ => None,
        };
        text.map(Some).ok_or_else(|| self.wrong(name, "a text"))
    }

    /// A text that must be given.
    pub fn required(&self, name: &str) -> Result<String> {
        self.text(name)?.ok_or_else(|| self.wrong(name, "given"))
    }

    /// The name of a table.
    pub fn table(&self, name: &str) -> Result<TableName> {
        let text = self.required(name)?;
        let dialect = GenericDialect {};
        let parsed = Parser::new(&dialect)
            .try_with_sql(&text)
            .and_then(|mut parser| {
                let parsed = parser.parse_object_name(false)?;
                parser.expect_token(&Token::EOF)?;
                Ok(parsed)
            });
        let parsed =
            parsed.map_err(|_| self.wrong(name, "the name of a table, as 'schema.table'"))?;
        Ok(ddl::table_name(
            self.catalogs,
            &self.home,
            &ddl::folded(&parsed)?,
        ))
    }

    /// True or false; false when it is not given.
    pub fn flag(&self, name: &str) -> Result<bool> {
        let Some(value) = self.given.get(name) else {
            return Ok(false);
        };
        match files::constant(value).as_deref() {
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            _ => Err(self.wrong(name, "true or false")),
        }
    }

    /// A time in milliseconds since 1970: any constant expression.
    pub fn millis(&self, name: &str) -> Result<Option<i64>> {
        let Some(value) = self.given.get(name) else {
            return Ok(None);
        };
        let version = Version {
            base: Vec::new(),
            at: AsOf::Timestamp(Box::new(value.clone())),
            position: Position { line: 1, column: 1 },
        };
        match Evaluator::new(self.state).version(&version) {
            Ok(TableVersion::TimestampMs(millis)) => Ok(Some(millis)),
            Ok(_) => Err(self.wrong(name, "a time")),
            Err(error) => {
                let text = error.to_string();
                Err(Error::Sql(text.replace("TIMESTAMP AS OF", name)))
            }
        }
    }
}
