//! What a session has of its own, as others may look at it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use inshore_lake::TableName;
use inshore_lake::catalog::View;
use inshore_lake::table::IcebergTable;
use parking_lot::Mutex;

use super::Session;
use crate::Result;
use crate::node::Coordinator;

impl Session {
    /// The coordinator.
    pub(crate) fn node(&self) -> &Arc<Coordinator> {
        &self.node
    }

    /// The tables that were opened by their files.
    pub(crate) fn own_tables(&self) -> BTreeMap<TableName, Arc<IcebergTable>> {
        self.tables.lock().clone()
    }

    /// A table that was opened by its files.
    pub(crate) fn own_table(&self, name: &TableName) -> Option<Arc<IcebergTable>> {
        self.tables.lock().get(name).cloned()
    }

    /// The views that last as long as the session.
    pub(crate) fn own_views(&self) -> BTreeMap<TableName, View> {
        self.views.lock().clone()
    }

    /// A view of this session, or else of a catalog.
    pub(crate) async fn view(&self, name: &TableName) -> Result<Option<View>> {
        let own = self.views.lock().get(name).cloned();
        match own {
            Some(view) => Ok(Some(view)),
            None => Ok(self.node.options.catalogs.view(name).await?),
        }
    }

    /// The session as it is now, for a statement that looks at it later. It is in no list of
    /// sessions.
    pub(crate) fn frozen(&self) -> Self {
        Self {
            id: self.id,
            opened: self.opened,
            client: self.client.clone(),
            statements: AtomicU64::new(self.statements()),
            node: Arc::clone(&self.node),
            settings: Mutex::new(self.settings.lock().clone()),
            tables: Mutex::new(self.own_tables()),
            views: Mutex::new(self.own_views()),
        }
    }
}
