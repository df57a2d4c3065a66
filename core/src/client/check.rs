//! Whether a broker would serve a filter, asked before anything is consumed: a consumer whose pulls are refused would only
//! seem to have nothing to do.

use super::route_cache::RouteError;
use super::subscription::sql;
use super::{Client, Shared};
use crate::remoting::RemotingCommand;
use crate::remoting::body::CheckClientRequestBody;
use crate::remoting::codes::{request, response};
use crate::remoting::connection::CallError;
use crate::runtime::Runtime;

/// A filter is not served, or nobody could say.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error("no route to {topic}: {error}")]
    Route { topic: String, error: RouteError },
    #[error("the route to {topic} names no broker that can be asked")]
    NoBroker { topic: String },
    #[error("ask {addr}: {error}")]
    Call { addr: String, error: CallError },
    /// The filter is wrong, or the broker has none.
    #[error("{addr} answers {code}: {remark}")]
    Refused { addr: String, code: i32, remark: String },
}

impl<R: Runtime> Client<R> {
    /// Asks one broker of the topic about a SQL92 expression, as Java's consumers do when they start.
    ///
    /// # Errors
    /// [`CheckError`].
    pub async fn check_filter(&self, group: &str, topic: &str, expression: &str) -> Result<(), CheckError> {
        let shared: &Shared<R> = self.shared();
        let route = shared.routes.refresh(topic).await;
        let route = route.map_err(|error| CheckError::Route { topic: topic.to_owned(), error })?;
        let addr = route.brokers.keys().find_map(|name| shared.routes.readable(name, 0));
        let addr = addr.ok_or_else(|| CheckError::NoBroker { topic: topic.to_owned() })?;
        let body = CheckClientRequestBody {
            client_id: shared.client_id.clone(),
            group: group.to_owned(),
            subscription_data: sql(topic, expression, shared.rt.wall_ms()),
        };
        let question = RemotingCommand::request(request::CHECK_CLIENT_CONFIG).with_body(body.to_json());
        match shared.peers.call(&addr, question, shared.config.request_timeout).await {
            Ok(answer) if answer.code == response::SUCCESS => Ok(()),
            Ok(answer) => {
                let remark = answer.remark.unwrap_or_default();
                Err(CheckError::Refused { addr, code: answer.code, remark })
            }
            Err(error) => Err(CheckError::Call { addr, error }),
        }
    }
}
