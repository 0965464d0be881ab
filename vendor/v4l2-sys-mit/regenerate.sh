#!/bin/bash
# Writes src/bindings.rs anew. Needs bindgen (`cargo install bindgen-cli --version 0.65.1 --locked`) and libclang.
set -euo pipefail
cd "$(dirname "$0")"

# What the crate `v4l` names.
types='
    v4l2_audio v4l2_audioout v4l2_buffer v4l2_capability v4l2_captureparm v4l2_control v4l2_crop
    v4l2_cropcap v4l2_edid v4l2_enc_idx v4l2_encoder_cmd v4l2_exportbuffer v4l2_ext_control v4l2_ext_controls
    v4l2_fmtdesc v4l2_format v4l2_fract v4l2_framebuffer v4l2_frequency v4l2_frmivalenum
    v4l2_frmsizeenum v4l2_input v4l2_jpegcompression v4l2_modulator v4l2_output v4l2_outputparm
    v4l2_pix_format v4l2_query_ext_ctrl v4l2_queryctrl v4l2_querymenu v4l2_requestbuffers
    v4l2_sliced_vbi_cap v4l2_standard v4l2_std_id v4l2_streamparm v4l2_tuner v4l2_frmsizetypes
    v4l2_frmivaltypes timeval time_t
'
types=$(tr -s ' \n' '|' <<<"$types")
types=${types#|}
types=${types%|}

bindgen --no-layout-tests --allowlist-type "$types" --allowlist-var 'V4L2_CTRL_FLAG_NEXT_(CTRL|COMPOUND)' \
    wrapper.h -o src/bindings.rs -- "$@"
