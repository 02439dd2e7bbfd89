//! The names of all keys of a store, from every node that has some.

use std::collections::HashSet;

use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{Value, cmd};

use super::{RedisStore, Servers, read};
use crate::core::error::StoreError;
use crate::store::{REVISION_LEN, ROW_KEY_LEN};

/// Asked for with each `SCAN`.
const SCANNED: usize = 500;

/// The length of a row's name after the prefix.
const ROW_NAME_LEN: usize = (4 * ROW_KEY_LEN).div_ceil(3);

/// Whether the key of this name, which begins with the prefix, is a row.
pub(super) fn is_row(name: &[u8], prefix: &[u8]) -> bool {
    name.len() == prefix.len() + ROW_NAME_LEN
}

/// Whether it is a row that is staged, which a connection that broke may leave for a while.
pub(super) fn is_stage(name: &[u8], prefix: &[u8]) -> bool {
    let braced = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(b"{"));
    let of_row = braced.and_then(|rest| rest.strip_prefix(prefix));
    of_row.is_some_and(|rest| rest.len() == ROW_NAME_LEN + "}:".len() + 2 * REVISION_LEN)
}

/// The names of all keys, some at a time.
pub(super) struct Scan {
    nodes: Vec<Option<SingleNodeRoutingInfo>>,
    cursor: Vec<u8>,
    pattern: Vec<u8>,
}

impl Scan {
    pub(super) async fn begin(store: &RedisStore) -> Result<Self, StoreError> {
        let escape = |&byte: &u8| if b"*?[]\\".contains(&byte) { vec![b'\\', byte] } else { vec![byte] };
        let pattern = [store.prefix.iter().flat_map(escape).collect(), b"*".to_vec()].concat();
        Ok(Self { nodes: primaries(store).await?, cursor: b"0".to_vec(), pattern })
    }

    /// The next of them; `None`: that was all. A key may come twice.
    pub(super) async fn next(&mut self, store: &RedisStore) -> Result<Option<HashSet<Vec<u8>>>, StoreError> {
        let Some(node) = self.nodes.last().cloned() else { return Ok(None) };
        let mut scan = cmd("SCAN");
        scan.arg(&self.cursor).arg("MATCH").arg(&self.pattern).arg("COUNT").arg(SCANNED);
        let (cursor, keys): (Vec<u8>, HashSet<Vec<u8>>) = match (node, &store.servers) {
            (Some(node), Servers::Cluster(cluster)) => {
                let answer = match cluster.connection().await {
                    Ok(mut connection) => connection.route_command(scan, RoutingInfo::SingleNode(node)).await,
                    Err(error) => Err(error),
                };
                read(answer.map_err(|error| store.failure(error))?)?
            }
            _ => store.query(scan).await?,
        };
        self.cursor = cursor;
        if self.cursor == b"0" {
            self.nodes.pop();
        }
        Ok(Some(keys))
    }
}

/// The nodes that hold keys: `None` is the single server.
async fn primaries(store: &RedisStore) -> Result<Vec<Option<SingleNodeRoutingInfo>>, StoreError> {
    let Servers::Cluster(_) = store.servers else { return Ok(vec![None]) };
    type Shard = (u16, u16, (String, u16));
    let mut slots = cmd("CLUSTER");
    slots.arg("SLOTS");
    let slots: Vec<Vec<Value>> = store.query(slots).await?;
    let mut nodes = Vec::new();
    for mut slot in slots {
        // Start, end, the primary (address, port, id, ..), its replicas.
        if let Some(Value::Array(primary)) = slot.get_mut(2) {
            primary.truncate(2);
        }
        slot.truncate(3);
        let (_, _, (host, port)): Shard = read(Value::Array(slot))?;
        let node = Some(SingleNodeRoutingInfo::ByAddress { host, port });
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    Ok(nodes)
}
