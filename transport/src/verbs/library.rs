//! libibverbs, loaded at run time.

use std::ffi::CStr;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use super::VerbsError;
use super::ffi::function as f;

/// The library's name, binary interface 1.
pub(super) const NAME: &str = "libibverbs.so.1";

macro_rules! library {
    ($($field:ident: $type:ty = $symbol:literal,)*) => {
        /// The functions of libibverbs that this carrier calls.
        #[allow(missing_docs, reason = "each is the function of that name in verbs.h")]
        pub(super) struct Library {
            $(pub(super) $field: $type,)*
            /// Never unloaded: providers that it loaded in turn keep addresses into it.
            _handle: ManuallyDrop<libloading::Library>,
        }

        impl Library {
            /// Loads the library and finds every function.
            pub(super) fn load() -> Result<Arc<Self>, VerbsError> {
                // SAFETY: loading runs the library's initialisers; libibverbs of rdma-core has none that do more than set up
                // its own data.
                let handle = unsafe { libloading::Library::new(NAME) }.map_err(missing)?;
                let handle = ManuallyDrop::new(handle);
                Ok(Arc::new(Self {
                    // SAFETY: the type is the one that verbs.h declares for this symbol (`ffi::function`), and the library
                    // is never unloaded, so the pointer stays good.
                    $($field: *unsafe { handle.get::<$type>($symbol.as_bytes()) }.map_err(missing)?,)*
                    _handle: handle,
                }))
            }
        }
    };
}

library! {
    get_device_list: f::GetDeviceList = "ibv_get_device_list",
    free_device_list: f::FreeDeviceList = "ibv_free_device_list",
    get_device_name: f::GetDeviceName = "ibv_get_device_name",
    open_device: f::OpenDevice = "ibv_open_device",
    close_device: f::CloseDevice = "ibv_close_device",
    query_port: f::QueryPort = "ibv_query_port",
    alloc_pd: f::AllocPd = "ibv_alloc_pd",
    dealloc_pd: f::DeallocPd = "ibv_dealloc_pd",
    reg_mr: f::RegMr = "ibv_reg_mr",
    dereg_mr: f::DeregMr = "ibv_dereg_mr",
    create_comp_channel: f::CreateCompChannel = "ibv_create_comp_channel",
    destroy_comp_channel: f::DestroyCompChannel = "ibv_destroy_comp_channel",
    create_cq: f::CreateCq = "ibv_create_cq",
    destroy_cq: f::DestroyCq = "ibv_destroy_cq",
    get_cq_event: f::GetCqEvent = "ibv_get_cq_event",
    ack_cq_events: f::AckCqEvents = "ibv_ack_cq_events",
    create_qp: f::CreateQp = "ibv_create_qp",
    modify_qp: f::ModifyQp = "ibv_modify_qp",
    destroy_qp: f::DestroyQp = "ibv_destroy_qp",
    get_async_event: f::GetAsyncEvent = "ibv_get_async_event",
    ack_async_event: f::AckAsyncEvent = "ibv_ack_async_event",
    wc_status_str: f::WcStatusStr = "ibv_wc_status_str",
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(NAME)
    }
}

impl Library {
    /// The library's own words for a completion's status.
    pub(super) fn status_text(&self, status: u32) -> String {
        // SAFETY: any number is answered with a string constant of the library.
        unsafe { CStr::from_ptr((self.wc_status_str)(status)) }.to_string_lossy().into_owned()
    }
}

fn missing(error: libloading::Error) -> VerbsError {
    VerbsError::NoLibrary { error: error.to_string() }
}
