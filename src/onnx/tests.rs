//! Networks that are taken, and those that are refused: see `tests/data/onnx/make.py`.

use ndarray::Array4;

use super::message::Message;
use super::{Execution, Int8, Network, Provider, Runtime, refuse_external_data};
use crate::enroll::{Settings, enroll, int8};
use crate::inspector::Options;
use crate::package::BackboneFile;
#[cfg(feature = "workshop")]
use crate::package::ClickFile;
use crate::{Error, ErrorKind};

macro_rules! network {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/data/onnx/", $name, ".onnx")).as_slice()
    };
}

fn one_thread() -> Execution {
    Execution { threads: std::num::NonZeroUsize::new(1), ..Execution::default() }
}

fn load(bytes: &[u8]) -> Result<Network, Error> {
    Network::backbone(Runtime::load(None).unwrap(), bytes, &one_thread())
}

fn refused(what: &str, bytes: &[u8]) -> Error {
    let error = load(bytes).err().unwrap_or_else(|| panic!("{what} must be refused"));
    assert_eq!(error.kind(), ErrorKind::Model, "{what}: {error}");
    error
}

#[test]
fn a_network_from_a_picture_to_a_grid_runs() {
    let mut network = load(network!("cells")).unwrap();
    let input = Array4::from_elem((1, 3, 16, 24), 1.0);
    let shape = network.run([&input], |output| {
        assert!(output.iter().all(|v| v.is_finite()));
        Ok(output.dim())
    });
    assert_eq!(shape.unwrap(), (1, 2, 3, 4));
}

/// `[n, 3, h, h]`: no size of `h` fits a picture that is not square.
#[test]
fn a_network_whose_sizes_cannot_be_set_gives_the_same_on_the_cpu() {
    let input = Array4::from_shape_fn((1, 3, 16, 24), |(_, c, y, x)| (c * 7 + y * 3 + x) as f32);
    let (mut bytes, from) = (network!("cells").to_vec(), b"\x12\x01w");
    let at: Vec<usize> = (0..bytes.len() - 2).filter(|&at| bytes[at..].starts_with(from)).collect();
    assert!(!at.is_empty());
    at.iter().for_each(|at| bytes[at + 2] = b'h');
    let run = |bytes: &[u8]| load(bytes).unwrap().run([&input], |output| Ok(output.to_owned())).unwrap();
    assert_eq!(run(&bytes), run(network!("cells")));
}

#[test]
fn networks_with_other_inputs_or_outputs_are_refused_with_advice() {
    for (what, bytes) in [
        ("one channel", network!("gray-input")),
        ("double precision", network!("double-precision")),
        ("two inputs", network!("two-inputs")),
        ("two outputs", network!("two-outputs")),
        ("an input of rank 3", network!("rank-3-input")),
        ("an output of rank 3", network!("rank-3-output")),
    ] {
        let error = refused(what, bytes);
        assert!(error.to_string().contains("the network must have one"), "{what}: {error}");
        assert!(error.to_string().contains("weakrest-export"), "{what}: {error}");
    }
}

#[test]
fn an_output_whose_rank_shows_only_when_it_runs_is_refused() {
    if let Ok(mut network) = load(network!("rank-5-when-run")) {
        let error = network.run([&Array4::zeros((1, 3, 16, 16))], |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Model);
    }
}

#[test]
fn an_input_that_the_network_cannot_take_is_an_error() {
    let mut network = load(network!("cells")).unwrap();
    let error = network.run([&Array4::zeros((1, 3, 4, 4))], |_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Model);
}

#[test]
fn what_is_no_network_is_refused() {
    let whole = network!("cells");
    for (what, bytes) in [
        ("nothing", b"".as_slice()),
        ("text", b"This is not a network."),
        ("a picture", b"\x89PNG\r\n\x1a\n"),
        ("zeros", &[0; 100]),
        ("a graph of nothing", &field(7, b"")),
        ("a version and no graph", &[8, 9]),
    ] {
        refused(what, bytes);
    }
    for cut in 1..whole.len() {
        assert!(cut % 97 != 0 || load(&whole[..cut]).is_err(), "cut at {cut}");
        // ONNX Runtime need not be asked about most of them.
        let _ = refuse_external_data(&whole[..cut]);
    }
}

/// A varint.
fn number(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A field of a protocol buffer that holds a message or a text.
fn field(tag: u64, content: &[u8]) -> Vec<u8> {
    [number(tag << 3 | 2), number(content.len() as u64), content.to_vec()].concat()
}

/// A field that holds a number.
fn value(tag: u64, content: u64) -> Vec<u8> {
    [number(tag << 3), number(content)].concat()
}

/// A tensor whose numbers are in the file `weights`.
fn external_tensor() -> Vec<u8> {
    let entry = [field(1, b"location"), field(2, b"weights")].concat();
    [value(1, 1), value(2, 1), field(8, b"w"), field(13, &entry), value(14, 1)].concat()
}

fn outside(what: &str, bytes: &[u8]) {
    let error = refuse_external_data(bytes).expect_err(what);
    assert_eq!(error.kind(), ErrorKind::Model);
    assert!(error.to_string().contains("another file"), "{what}: {error}");
}

#[test]
fn the_networks_here_keep_everything_to_themselves() {
    refuse_external_data(network!("cells")).unwrap();
    refuse_external_data(network!("rank-5-when-run")).unwrap();
    refuse_external_data(&BackboneFile::built_in().unwrap().onnx).unwrap();
    for bytes in [
        include_bytes!("../../models/general-head.onnx").as_slice(),
        include_bytes!("../../models/adclick.onnx"),
        include_bytes!("../../tests/data/head/swin.onnx"),
        include_bytes!("../../tests/data/adclick/adclick.onnx"),
        include_bytes!("../../tests/data/adclick/seg.onnx"),
    ] {
        refuse_external_data(bytes).unwrap();
    }
}

/// A node of an operator of a domain.
fn node(domain: &[u8], operator: &[u8]) -> Vec<u8> {
    [field(2, b"out"), field(4, operator), field(7, domain)].concat()
}

/// Wherever a file may have a node.
fn places(node: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let graph = field(1, node);
    let outer = field(1, &[field(4, b"If"), field(5, &field(6, &graph))].concat());
    let listed = field(1, &[field(4, b"Loop"), field(5, &field(11, &graph))].concat());
    let function = [field(1, b"F"), field(10, b"mine"), field(7, node)].concat();
    let some = field(7, &field(2, b"name"));
    vec![
        ("the graph", field(7, &graph)),
        ("a graph of an attribute", field(7, &outer)),
        ("graphs of an attribute", field(7, &listed)),
        ("a function", [some.clone(), field(25, &function)].concat()),
        ("how training begins", [some.clone(), field(20, &field(1, &graph))].concat()),
        ("a step of training", [some, field(20, &field(2, &outer))].concat()),
    ]
}

fn refused_by_name(what: &str, bytes: &[u8], name: &str) {
    let error = refuse_external_data(bytes).expect_err(what);
    assert_eq!(error.kind(), ErrorKind::Model);
    assert!(error.to_string().contains(name), "{what}: {error}");
}

#[test]
fn nodes_that_run_other_files_or_may_are_found_wherever_a_network_may_have_nodes() {
    for domain in [b"com.microsoft".as_slice(), b"", b"ai.onnx", b"whose"] {
        for (place, bytes) in places(&node(domain, b"EPContext")) {
            refused_by_name(place, &bytes, "a node EPContext");
        }
    }
    for domain in ["com.microsoft", "ai.onnx.contrib", "trt.plugins", "ai.onnx.ml", "AI.ONNX", "\u{1b}[2J"] {
        for (place, bytes) in places(&node(domain.as_bytes(), b"Reader")) {
            refused_by_name(place, &bytes, "the node \"Reader\" of ");
        }
    }
    for domain in [b"".as_slice(), b"ai.onnx"] {
        for (_, bytes) in places(&node(domain, b"Conv")) {
            refuse_external_data(&bytes).unwrap();
        }
    }
    // The last of two texts counts.
    let twice =
        [field(4, b"Conv"), field(7, b""), field(4, b"EPContext"), field(7, b"com.microsoft")].concat();
    refused_by_name("two names", &field(7, &field(1, &twice)), "EPContext");
}

#[test]
fn functions_that_the_file_brings_along_may_be_called() {
    let function = |domain: &[u8], name: &[u8], body: &[u8]| {
        field(25, &[field(1, name), field(7, body), field(10, domain)].concat())
    };
    let call = field(7, &field(1, &node(b"mine", b"Twice")));
    let conv = node(b"", b"Conv");
    for functions in [
        [function(b"mine", b"Twice", &conv), call.clone()],
        [call.clone(), function(b"mine", b"Twice", &conv)],
    ] {
        refuse_external_data(&functions.concat()).unwrap();
    }
    let other = [call.clone(), function(b"yours", b"Twice", &conv)].concat();
    refused_by_name("a function of another domain", &other, "\"Twice\" of \"mine\"");
    let disguised = [
        field(7, &field(1, &node(b"com.microsoft", b"Reader"))),
        function(b"com.microsoft", b"Reader", &conv),
    ];
    refused_by_name("an operator by the name of a function", &disguised.concat(), "\"Reader\" of");
    let hidden = [call, function(b"mine", b"EPContext", &conv), function(b"mine", b"Twice", &conv)].concat();
    refused_by_name("a function by the name of an operator", &hidden, "EPContext");
}

#[test]
fn weights_in_other_files_are_found_in_what_training_keeps() {
    let graph = field(5, &external_tensor());
    outside("how training begins", &[field(7, &field(2, b"g")), field(20, &field(1, &graph))].concat());
    outside("a step of training", &[field(7, &field(2, b"g")), field(20, &field(2, &graph))].concat());
}

/// Whatever is done to a file, it ends well, and what names another file in it is never overlooked.
#[test]
fn no_damage_makes_a_file_panic_or_hides_what_it_names() {
    let whole = network!("cells");
    let mut state = 1u64;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let traps =
        [field(7, &field(5, &external_tensor())), field(7, &field(1, &node(b"com.microsoft", b"EPContext")))];
    for trap in &traps {
        assert!(refuse_external_data(&[whole, trap.as_slice()].concat()).is_err());
    }
    let mut taken = 0;
    for _ in 0..50_000 {
        let mut bytes = whole.to_vec();
        for _ in 0..1 + draw(3) {
            let at = draw(bytes.len());
            match draw(4) {
                0 => bytes[at] = draw(256) as u8,
                1 => bytes[at] ^= 1 << draw(8),
                2 => bytes.truncate(at.max(1)),
                _ => drop(bytes.splice(at..at, (0..1 + draw(12)).map(|_| 0xff).collect::<Vec<u8>>())),
            }
        }
        if refuse_external_data(&bytes).is_ok() {
            taken += 1;
            for trap in &traps {
                let trapped = [bytes.as_slice(), trap].concat();
                assert!(refuse_external_data(&trapped).is_err(), "{bytes:02x?}");
            }
        }
    }
    assert!(taken > 100, "most are refused, not all: {taken}");
}

#[test]
fn weights_in_other_files_are_found_wherever_a_network_may_keep_weights() {
    let tensor = external_tensor();
    let sparse = [field(1, &tensor), field(2, &tensor)].concat();
    // A tensor, sparse or in a list, as an attribute; and a graph as an attribute, which holds it in turn.
    let graph = field(5, &tensor);
    let attributes = [
        field(5, &tensor),
        field(10, &tensor),
        field(22, &sparse),
        field(23, &field(2, &tensor)),
        field(6, &graph),
        field(11, &graph),
    ];
    for attribute in &attributes {
        let attribute = [field(1, b"value"), attribute.clone()].concat();
        let node = field(5, &attribute);
        outside("an attribute of a node", &field(7, &field(1, &node)));
        outside("an attribute of a function's node", &field(25, &field(7, &node)));
        // What the attribute is when the caller gives none.
        outside("an attribute of a function", &field(25, &field(11, &attribute)));
    }
    outside("an initializer", &field(7, &graph));
    outside("the values of a sparse initializer", &field(7, &field(15, &field(1, &tensor))));
    outside("the places of a sparse initializer", &field(7, &field(15, &field(2, &tensor))));
    outside("the second graph, which is merged with the first", &[field(7, b""), field(7, &graph)].concat());
    outside(
        "after other fields",
        &[value(1, 9), field(2, b"someone"), field(7, &graph), value(5, 1)].concat(),
    );

    let mut nested = graph;
    for _ in 0..10 {
        nested = field(1, &field(5, &field(6, &nested)));
    }
    outside("graphs within graphs", &field(7, &nested));
    for _ in 0..40 {
        nested = field(1, &field(5, &field(6, &nested)));
    }
    assert!(refuse_external_data(&field(7, &nested)).is_err(), "deeper than can be looked into");
}

#[test]
fn either_sign_of_weights_elsewhere_is_enough() {
    let entry = [field(1, b"location"), field(2, b"weights")].concat();
    for tensor in [field(13, &entry), field(13, b""), value(14, 1), value(14, 7)] {
        outside("one of two signs", &field(7, &field(5, &tensor)));
    }
    refuse_external_data(&field(7, &field(5, &value(14, 0)))).unwrap();
}

/// ONNX Runtime cuts a field's key down to 32 bits, and finds the graph where a reader of 64 bits sees an
/// unknown field.
#[test]
fn a_key_that_readers_understand_differently_is_refused() {
    let graph = field(5, &external_tensor());
    let long_key = [0x3a | 0x80, 0x80, 0x80, 0x80, 0x10].to_vec();
    let hidden = [value(1, 9), long_key, number(graph.len() as u64), graph.clone()].concat();
    assert!(refuse_external_data(&hidden).is_err());
    // The same key, just written at length, is the graph's for everyone.
    let long_key = [0x3a | 0x80, 0x80, 0x80, 0x80, 0x00].to_vec();
    outside("a long key", &[long_key, number(graph.len() as u64), graph].concat());
}

#[test]
fn malformed_bytes_are_refused() {
    for bytes in [
        [0x3a].as_slice(),
        &[0x3a, 5, 1],
        &[0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        &[0x3b],
        &[0x3c],
        &[0x3e],
        &[0x09, 1, 2, 3],
        &[0x0d, 1, 2, 3],
        &[0x80; 20],
    ] {
        assert_eq!(refuse_external_data(bytes).unwrap_err().kind(), ErrorKind::Model, "{bytes:?}");
    }
}

#[test]
fn what_is_read_of_a_file_is_written_again() {
    for bytes in [network!("cells"), &BackboneFile::built_in_scales().unwrap().onnx] {
        assert!(Message::read(bytes).unwrap().write() == bytes);
    }
    for cut in 1..network!("cells").len() {
        // The end of a field is an end of a message.
        let _ = Message::read(&network!("cells")[..cut]);
    }
    assert_eq!(Message::read(&[0x0b]), None);
}

/// A picture with much of everything.
fn noise(seed: usize) -> Array4<f32> {
    let value = |(_, c, y, x): (usize, usize, usize, usize)| {
        let mixed = (seed * 7 + c * 31 + y * 17 + x * 13) as u32;
        (mixed.wrapping_mul(2_654_435_761) >> 16) as f32 / 16384.0 - 2.0
    };
    Array4::from_shape_fn((1, 3, 64, 96), value)
}

#[test]
fn a_network_in_8_bits_gives_almost_the_same() {
    let runtime = Runtime::load(None).unwrap();
    for (backbone, share) in [(BackboneFile::built_in(), 2), (BackboneFile::built_in_scales(), 1)] {
        let onnx = backbone.unwrap().onnx;
        let mut made = Int8::new(runtime, &onnx).unwrap();
        (0..4).for_each(|seed| made.see(&noise(seed)).unwrap());
        let int8 = made.write().unwrap();
        assert!(share * int8.len() < onnx.len(), "{} of {}", int8.len(), onnx.len());
        let operators = super::external::operators(&int8);
        assert!(operators.contains("\"DequantizeLinear\""), "{operators:?}");
        let run =
            |bytes: &[u8]| load(bytes).unwrap().run([&noise(5)], |output| Ok(output.to_owned())).unwrap();
        let (float, int8) = (run(&onnx), run(&int8));
        let length = |values: &Array4<f32>| values.iter().map(|v| v * v).sum::<f32>().sqrt();
        let apart = length(&(&float - &int8)) / length(&float);
        // Rounded, but not another network.
        assert!(apart > 1e-6 && apart < 0.3, "{apart}");
    }
}

#[test]
fn what_cannot_be_computed_in_8_bits_is_refused() {
    let runtime = Runtime::load(None).unwrap();
    // The only convolution reads the picture.
    let error = Int8::new(runtime, network!("cells")).err().unwrap();
    assert!(error.kind() == ErrorKind::Model && error.to_string().contains("no convolution"), "{error}");
    let mut made = Int8::new(runtime, &BackboneFile::built_in().unwrap().onnx).unwrap();
    let error = made.see(&Array4::from_elem((1, 3, 64, 96), f32::NAN)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFinite, "{error}");
}

/// Pictures, and a network taken for a backbone.
fn backbone_with(onnx: &[u8]) -> (tempfile::TempDir, Vec<std::path::PathBuf>, BackboneFile) {
    let folder = tempfile::tempdir().unwrap();
    let pictures: Vec<_> = (0..2u8)
        .map(|n| {
            let path = folder.path().join(format!("{n}.png"));
            image::GrayImage::from_fn(48, 32, |x, y| image::Luma([(x * 3 + y) as u8 - n.min(x as u8)]))
                .save(&path)
                .unwrap();
            path
        })
        .collect();
    let mut backbone = BackboneFile::built_in().unwrap();
    backbone.onnx = onnx.to_vec();
    backbone.info.kind.scales[0].channels = 4;
    (folder, pictures, backbone)
}

fn enrolled_with(onnx: &[u8]) -> Result<(), Error> {
    let (_folder, pictures, backbone) = backbone_with(onnx);
    let settings = Settings { longest_side: Some(48), ..Settings::default() };
    enroll(&pictures, &backbone, &settings, &Options::default(), &mut |_, _, _| true).map(|_| ())
}

#[test]
fn a_network_that_8_bits_change_too_much_is_refused() {
    let (_folder, pictures, backbone) = backbone_with(network!("swamped"));
    let settings = Settings { longest_side: Some(48), ..Settings::default() };
    let made = int8(&pictures, &backbone, &settings, &Options::default(), &mut |_, _, _| true);
    let error = made.err().expect("nothing is left of the features");
    assert!(error.kind() == ErrorKind::Model && error.chain().contains("enroll without --int8"), "{error}");
    // The user stops it.
    let stopped = int8(&pictures, &backbone, &settings, &Options::default(), &mut |_, _, _| false);
    assert!(stopped.unwrap().is_none());
}

#[test]
fn a_network_that_gives_no_numbers_cannot_be_enrolled_with() {
    enrolled_with(network!("cells")).unwrap();
    let error = enrolled_with(network!("not-finite")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFinite, "{error}");
}

#[test]
fn a_network_that_does_not_fit_its_manifest_cannot_be_enrolled_with() {
    let error = enrolled_with(&BackboneFile::built_in().unwrap().onnx).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Model);
    assert!(error.to_string().contains("its manifest does not fit it"), "{error}");
}

#[test]
fn a_backbone_is_opened_with_its_manifest_and_its_license() {
    let folder = tempfile::tempdir().unwrap();
    let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    for name in ["efficientnet-lite1.onnx", "efficientnet-lite1.toml", "LICENSE-efficientnet-lite"] {
        std::fs::copy(models.join(name), folder.path().join(name)).unwrap();
    }
    let file = |name: &str| folder.path().join(name);
    let built_in = BackboneFile::built_in().unwrap();
    for name in ["efficientnet-lite1.onnx", "efficientnet-lite1.toml"] {
        let opened = BackboneFile::open(file(name)).unwrap();
        assert_eq!(opened.info, built_in.info);
        assert!(opened.onnx == built_in.onnx && opened.license == built_in.license);
    }

    let manifest = std::fs::read_to_string(file("efficientnet-lite1.toml")).unwrap();
    for (from, to) in [
        ("format = 3", "format = 2"),
        ("kind = \"backbone\"", "kind = \"block-head\""),
        ("kind = \"backbone\"", "kind = \"other\""),
        ("color = \"rgb\"", "color = \"bgr\""),
        ("channels = 176", "channels = 177"),
        ("channels = 176", "channels = 0"),
        ("stride = 8\n", "stride = 8\nsurprise = 1\n"),
        ("LICENSE-efficientnet-lite", "../LICENSE"),
        ("LICENSE-efficientnet-lite", "missing"),
        ("sha256 = \"", "sha256 = \"0"),
    ] {
        assert!(manifest.contains(from));
        std::fs::write(file("efficientnet-lite1.toml"), manifest.replacen(from, to, 1)).unwrap();
        let error = BackboneFile::open(file("efficientnet-lite1.onnx")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Model, "{to}: {error}");
    }
    std::fs::remove_file(file("efficientnet-lite1.onnx")).unwrap();
    assert_eq!(BackboneFile::open(file("efficientnet-lite1.toml")).unwrap_err().kind(), ErrorKind::Model);
}

/// Tensors of a file that PyTorch wrote, by name.
fn golden(bytes: &[u8]) -> impl Fn(&str) -> Array4<f32> {
    let golden = safetensors::SafeTensors::deserialize(bytes).unwrap();
    move |name| {
        let tensor = golden.tensor(name).unwrap();
        let (values, _) = tensor.data().as_chunks::<4>();
        let values = values.iter().map(|v| f32::from_le_bytes(*v)).collect();
        let shape: [usize; 4] = tensor.shape().try_into().unwrap();
        Array4::from_shape_vec(shape, values).unwrap()
    }
}

fn assert_alike(ours: ndarray::ArrayView4<f32>, theirs: &Array4<f32>, what: &str) -> crate::Result<()> {
    let largest = theirs.iter().fold(0.0f32, |l, v| l.max(v.abs()));
    assert!(largest > 0.1, "logits of nothing prove nothing: {largest}");
    assert_eq!(ours.dim(), theirs.dim(), "{what}");
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert!((ours - theirs).abs() <= 1e-4 * largest.max(1.0), "{what}: {ours} {theirs}");
    }
    Ok(())
}

/// What the inspector computes is what training computed, on grids of every kind: see
/// `tests/data/head/make.py`.
#[test]
fn a_head_gives_what_pytorch_gives() {
    let array = golden(include_bytes!("../../tests/data/head/golden.safetensors"));
    let runtime = Runtime::load(None).unwrap();
    let mut head =
        Network::head(runtime, include_bytes!("../../tests/data/head/swin.onnx"), &one_thread(), 6).unwrap();
    for size in ["8x8", "32x32", "13x50", "1x1", "9x7"] {
        let expected = array(&format!("logits.{size}"));
        head.run([&array(&format!("residuals.{size}"))], |logits| assert_alike(logits, &expected, size))
            .unwrap();
    }
}

/// The same for a vision transformer, whose positions fit any grid: see `tests/data/vit/make.py`.
#[test]
fn a_vision_transformer_gives_what_pytorch_gives() {
    let array = golden(include_bytes!("../../tests/data/vit/golden.safetensors"));
    let mut network = load(include_bytes!("../../tests/data/vit/vit.onnx")).unwrap();
    for size in ["84x84", "28x98", "14x14"] {
        let expected = array(&format!("features.{size}"));
        network
            .run([&array(&format!("picture.{size}"))], |features| {
                assert_alike(features.permuted_axes([0, 3, 1, 2]), &expected, size)
            })
            .unwrap();
    }
    for (high, wide) in [(112, 84), (14, 70)] {
        assert_eq!(left(&network, &[[1, 3, high, wide]]), Vec::<String>::new());
    }
    assert!(!left(&network, &[]).is_empty(), "the sizes would not have mattered");
}

/// The same for ADClick, with clicks and without: see `tests/data/adclick/make.py`.
#[test]
fn adclick_gives_what_pytorch_gives() {
    let array = golden(include_bytes!("../../tests/data/adclick/golden.safetensors"));
    let runtime = Runtime::load(None).unwrap();
    let bytes = include_bytes!("../../tests/data/adclick/adclick.onnx");
    let mut clicked = Network::adclick(runtime, bytes, &one_thread(), 176, 384).unwrap();
    let mut alone = Network::seeing_head(
        runtime,
        include_bytes!("../../tests/data/adclick/seg.onnx"),
        &one_thread(),
        176,
    )
    .unwrap();
    for size in ["3x9", "10x8", "1x1"] {
        let input = |name: &str| array(&format!("{name}.{size}"));
        let (residuals, picture) = (input("residuals"), input("picture"));
        let inputs = [&residuals, &picture, &input("guidance"), &input("prompt")];
        clicked.run(inputs, |logits| assert_alike(logits, &input("logits"), size)).unwrap();
        alone.run([&residuals, &picture], |logits| assert_alike(logits, &input("alone"), size)).unwrap();
    }
}

/// Operators that compute sizes while a network runs. No GPU takes them.
const SIZES: [&str; 6] =
    ["\"ConstantOfShape\"", "\"Expand\"", "\"NonZero\"", "\"Range\"", "\"Shape\"", "\"Size\""];

/// The size operators that are left in a network for inputs of these sizes.
fn left(network: &Network, sizes: &[[usize; 4]]) -> Vec<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    network.optimized(sizes, file.path()).unwrap();
    let operators = super::external::operators(&std::fs::read(file.path()).unwrap());
    assert!(operators.len() > 3, "{operators:?}");
    operators.into_iter().filter(|operator| SIZES.contains(&operator.as_str())).collect()
}

/// Else the network would not run on a GPU, and no test here would tell.
#[test]
fn no_network_that_ships_computes_sizes_while_it_runs() {
    let runtime = Runtime::load(None).unwrap();
    let execution = one_thread();
    for backbone in [BackboneFile::built_in(), BackboneFile::built_in_scales()] {
        let network = Network::backbone(runtime, &backbone.unwrap().onnx, &execution).unwrap();
        for (high, wide) in [(256, 256), (448, 320)] {
            assert_eq!(left(&network, &[[1, 3, high, wide]]), Vec::<String>::new());
        }
    }
    let swin = include_bytes!("../../tests/data/head/swin.onnx").as_slice();
    let general = include_bytes!("../../models/general-head.onnx").as_slice();
    for (head, channels) in [(swin, 6), (general, 176)] {
        let network = Network::head(runtime, head, &execution, channels).unwrap();
        for (rows, cols) in [(32, 32), (13, 50), (1, 1)] {
            assert_eq!(left(&network, &[[1, rows, cols, channels]]), Vec::<String>::new());
        }
        assert!(!left(&network, &[]).is_empty(), "the sizes would not have mattered");
    }
    let seg = include_bytes!("../../tests/data/adclick/seg.onnx");
    let network = Network::seeing_head(runtime, seg, &execution, 176).unwrap();
    assert_eq!(left(&network, &[[1, 8, 9, 176], [1, 3, 64, 72]]), Vec::<String>::new());
}

#[cfg(feature = "workshop")]
#[test]
fn no_click_network_that_ships_computes_sizes_while_it_runs() {
    let (runtime, execution) = (Runtime::load(None).unwrap(), one_thread());
    for file in ClickFile::built_in().unwrap() {
        let info = file.network.info.kind;
        let block = if info.channels == 176 { 8 } else { 16 };
        let network =
            Network::adclick(runtime, &file.network.onnx, &execution, info.channels, info.prompt).unwrap();
        let (rows, cols, cells) = (28, 20, block / info.cell as usize);
        let sizes = [
            [1, rows, cols, info.channels],
            [1, 3, block * rows, block * cols],
            [1, 3, cells * rows, cells * cols],
            [1, 1, 1, info.prompt],
        ];
        assert_eq!(left(&network, &sizes), Vec::<String>::new());
    }
}

/// Pictures of different sizes share a few sessions, and get the values that they get alone.
#[test]
fn any_number_of_sizes_runs() {
    let array = golden(include_bytes!("../../tests/data/head/golden.safetensors"));
    let runtime = Runtime::load(None).unwrap();
    let mut head =
        Network::head(runtime, include_bytes!("../../tests/data/head/swin.onnx"), &one_thread(), 6).unwrap();
    assert_eq!(head.provider(), None);
    for round in 0..3 {
        for size in ["8x8", "32x32", "13x50", "1x1", "9x7"] {
            let expected = array(&format!("logits.{size}"));
            let what = format!("{size}, round {round}");
            head.run([&array(&format!("residuals.{size}"))], |logits| assert_alike(logits, &expected, &what))
                .unwrap();
            assert_eq!(head.provider(), Some(Provider::Cpu));
        }
    }
}

/// A network whose inputs are not ADClick's is refused by name.
#[test]
fn a_network_with_other_inputs_is_no_adclick() {
    let runtime = Runtime::load(None).unwrap();
    let head = include_bytes!("../../tests/data/head/swin.onnx");
    let error = Network::adclick(runtime, head, &one_thread(), 6, 384).err().unwrap().to_string();
    assert!(error.contains("picture"), "{error}");
    let adclick = include_bytes!("../../tests/data/adclick/adclick.onnx");
    let error = Network::seeing_head(runtime, adclick, &one_thread(), 176).err().unwrap().to_string();
    assert!(error.contains("more inputs than residuals, picture"), "{error}");
}
