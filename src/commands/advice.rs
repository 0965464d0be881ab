//! What to do about an error, in terms of this program's options.

use crate::Error;
use crate::error::Hint;

/// The whole text of an error, with advice.
pub fn chain(error: &Error) -> String {
    error.chain_with(|hint| match hint {
        Hint::Exists => "; add --overwrite to replace it",
        Hint::BadEntries => ", or add --skip-bad",
        Hint::OtherSizes => ", or add --any-size if the sizes differ on purpose",
        Hint::NothingMarked => ", or call the rest good with --unmarked-good",
        Hint::OtherGoodFolder => ", or add --good NAME",
        Hint::OtherProduct => "; add --other-product if that is meant",
        Hint::Older => "; add --older if that is meant, or roll back",
        Hint::Unsigned => "; sign it with minisign",
        Hint::Changed => ", or override only the threshold, with --threshold or inspection.threshold",
        Hint::LaterHead => "; put it into the enrolled package with `weakrest package add-head`",
        Hint::Slow => "; allow more with --patience, or bring it in a folder",
        Hint::NoToken => ", or add --token-file",
        Hint::NoAuthority => ", or name the plant's own with --ca",
        Hint::NoRuntime => {
            "; install weakrest's package again, in its sources run `make runtime`, or give its path with \
             --onnxruntime FILE or in ORT_DYLIB_PATH"
        }
    })
}
