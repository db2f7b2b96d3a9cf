//! Which files a statement may name.

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path;

use super::unpack::{Packing, register_unpacking};
use crate::store::Stores;
use crate::{Error, Result};

/// The key of the user's file system in DataFusion's registry.
const USER_FILES: &str = "user-files://local";

/// The lakes, and the user's own file system where the engine is the user's own process.
#[derive(Debug)]
pub struct FileAccess {
    stores: Arc<Stores>,
    user: Option<UserFiles>,
}

#[derive(Debug)]
struct UserFiles {
    store: Arc<dyn ObjectStore>,
    url: ObjectStoreUrl,
    working_directory: String,
}

/// A location in a store.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// As the statement spells it.
    pub text: String,
    pub store: Arc<dyn ObjectStore>,
    pub url: ObjectStoreUrl,
    pub path: Path,
    /// The lakes that symbolic links must not leave; none for the user's own files.
    bounds: Option<Arc<Stores>>,
}

impl FileAccess {
    /// Files under the lakes' roots. With a `working_directory`, which must be absolute, all files
    /// of this machine as well, and relative paths.
    ///
    /// # Errors
    /// [`Error::Config`] when the working directory is no absolute path of Unicode characters.
    pub fn new(stores: Arc<Stores>, working_directory: Option<PathBuf>) -> Result<Self> {
        let user = working_directory.map(|folder| {
            let text = folder.to_str().filter(|text| text.starts_with('/'));
            let working_directory = text.ok_or_else(|| {
                Error::Config(format!(
                    "the working directory {} is no absolute path of Unicode characters",
                    folder.display()
                ))
            })?;
            let url = ObjectStoreUrl::parse(USER_FILES)
                .map_err(|error| Error::Internal(error.strip_backtrace()))?;
            Ok::<_, Error>(UserFiles {
                store: Arc::new(LocalFileSystem::new()),
                url,
                working_directory: working_directory.to_owned(),
            })
        });
        Ok(Self {
            stores,
            user: user.transpose()?,
        })
    }

    /// Registers the user's file system with DataFusion; the lakes are registered by
    /// [`Stores::register`].
    pub fn register(&self, env: &RuntimeEnv) {
        if let Some(user) = &self.user {
            env.register_object_store(user.url.as_ref(), Arc::clone(&user.store));
            register_unpacking(env, &user.url, &user.store);
        }
    }

    /// The place that a statement names.
    ///
    /// # Errors
    /// As [`Stores::resolve`].
    pub(super) fn place(&self, text: &str) -> Result<Place> {
        let Some(user) = &self.user else {
            let (store, path, url) = self.stores.resolve(text)?;
            return Ok(Place {
                text: text.to_owned(),
                store,
                url,
                path,
                bounds: Some(Arc::clone(&self.stores)),
            });
        };
        let relative =
            !text.starts_with('/') && !text.contains("://") && !text.starts_with("file:");
        let full = match relative {
            true => format!("{}/{text}", user.working_directory),
            false => text.to_owned(),
        };
        let (store, path, url) = match self.stores.resolve(&full) {
            Ok(found) => found,
            Err(error @ Error::OutsideLakes { .. }) => match self.stores.local_path(&full) {
                Some(path) => (Arc::clone(&user.store), path, user.url.clone()),
                None => return Err(error),
            },
            Err(error) => return Err(error),
        };
        Ok(Place {
            text: text.to_owned(),
            store,
            url,
            path,
            bounds: None,
        })
    }
}

impl Place {
    /// Whether every node of a cluster can open it.
    pub fn is_in_lake(&self) -> bool {
        self.url.as_str() != format!("{USER_FILES}/")
    }

    /// The error of the store about this place.
    pub fn failed(&self, error: object_store::Error) -> Error {
        Error::store(&self.text, error)
    }

    /// How a file at `path` in the same store is called in messages.
    pub fn name_of(&self, path: &Path) -> String {
        match path == &self.path {
            true => self.text.clone(),
            false => path.to_string(),
        }
    }

    /// Refuses paths that lead out of the lakes by symbolic links.
    ///
    /// # Errors
    /// [`Error::OutsideLakes`].
    pub async fn check_links(&self, paths: Vec<Path>) -> Result<()> {
        match &self.bounds {
            Some(stores) => stores.check_links(&self.url, paths).await,
            None => Ok(()),
        }
    }

    /// The store that gives the plain bytes of files, and its key in DataFusion's registry.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub fn unpacked(&self, packing: Packing) -> Result<(Arc<dyn ObjectStore>, ObjectStoreUrl)> {
        match packing.is_plain() {
            true => Ok((Arc::clone(&self.store), self.url.clone())),
            false => Ok((packing.over(&self.store), packing.url(&self.url)?)),
        }
    }
}
