//! Raw Video4Linux bindings, generated beforehand. See README.md.

#![allow(warnings, clippy::all)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("these bindings are for 64-bit machines only: README.md says how to generate others");

include!("bindings.rs");

/// The kernel's sizes: part of the number of each call, which therefore cannot be mistaken for another if they agree.
const _: () = {
    assert!(size_of::<v4l2_buffer>() == 88);
    assert!(size_of::<v4l2_capability>() == 104);
    assert!(size_of::<v4l2_ext_control>() == 20);
    assert!(size_of::<v4l2_fmtdesc>() == 64);
    assert!(size_of::<v4l2_format>() == 208);
    assert!(size_of::<v4l2_frmivalenum>() == 52);
    assert!(size_of::<v4l2_frmsizeenum>() == 44);
    assert!(size_of::<v4l2_pix_format>() == 48);
    assert!(size_of::<v4l2_query_ext_ctrl>() == 232);
    assert!(size_of::<v4l2_querymenu>() == 44);
    assert!(size_of::<v4l2_requestbuffers>() == 20);
    assert!(size_of::<v4l2_streamparm>() == 204);
};
