//! This node's RDMA device, for links that may use one.

use std::sync::Arc;

use keyrange_transport::verbs::{Device, Selection, VerbsError, sysfs};

use super::carrier::CarrierWish;
use super::error::NodeError;

/// The device, or why there is none. A device that was demanded and is missing is an error; otherwise other carriers do.
#[derive(Debug, Clone)]
pub(crate) struct Verbs(Result<Arc<Device>, VerbsError>);

impl Verbs {
    /// Opens the device that the carrier wished for may need: the one `selected`, or the best.
    pub(crate) fn open(wish: CarrierWish, selected: &Selection) -> Result<Self, NodeError> {
        match wish {
            CarrierWish::Verbs => Ok(Verbs(Ok(Device::open(selected)?))),
            // Whoever names a port shall not get another carrier for a slip of the pen.
            CarrierWish::Auto if *selected != Selection::default() => {
                Ok(Verbs(Ok(Device::open(selected).map_err(NodeError::VerbsSelection)?)))
            }
            // The library is not even looked for where the kernel has no device.
            CarrierWish::Auto if !sysfs::ports().is_empty() => Ok(Verbs(Device::open(selected))),
            CarrierWish::Auto | CarrierWish::Shm | CarrierWish::Tcp => Ok(Self::none()),
        }
    }

    /// No device.
    pub(crate) fn none() -> Self {
        Verbs(Err(VerbsError::NoDevice))
    }

    /// The device.
    pub(crate) fn device(&self) -> Option<&Arc<Device>> {
        self.0.as_ref().ok()
    }

    /// What its port's packets travel in, as nodes tell each other: only equal ones can talk.
    pub(crate) fn link_layer(&self) -> Option<String> {
        self.device().map(|device| device.link_layer().to_string())
    }
}
