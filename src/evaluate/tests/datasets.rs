//! Every data set layout, on tiny made-up trees.

use std::path::{Path, PathBuf};

use crate::ErrorKind;
use crate::evaluate::datasets::{
    self, Category, Format, Mask, MaskRule, MaskSource, Sample, read as read_with,
};
use crate::imaging::Frame;
use image::{ColorType, GrayImage, Luma, RgbImage, Rgba, RgbaImage};
use tempfile::TempDir;

fn read(dir: impl AsRef<Path>, format: Format) -> crate::Result<Vec<Category>> {
    datasets::read(dir, format, &[])
}

/// A made-up data set that is deleted afterwards.
struct Tree(TempDir);

impl Tree {
    fn new() -> Self {
        Tree(TempDir::new().unwrap())
    }

    fn dir(&self) -> &Path {
        self.0.path()
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir().join(file)
    }

    fn with(self, file: &str, bytes: &[u8]) -> Self {
        let path = self.path(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        self
    }

    /// 8×8 pictures.
    fn pictures(mut self, files: &[&str]) -> Self {
        for file in files {
            self = self.mask(file, 90);
        }
        self
    }

    /// An 8×8 gray picture that is black but for one pixel, unless `value` is 0.
    fn mask(self, file: &str, value: u8) -> Self {
        let path = self.path(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut picture = GrayImage::new(8, 8);
        picture.put_pixel(3, 2, Luma([value]));
        picture.save(path).unwrap();
        self
    }

    fn without(self, file: &str) -> Self {
        let path = self.path(file);
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap()
        } else {
            std::fs::remove_file(path).unwrap()
        }
        self
    }

    #[track_caller]
    fn read(&self, format: Format) -> Vec<Category> {
        read(self.dir(), format).unwrap()
    }

    /// The category as text, paths relative to the tree.
    fn told(&self, category: &Category) -> Vec<String> {
        let short = |p: &Path| p.strip_prefix(self.dir()).unwrap().display().to_string();
        let train = category.train.iter().map(|p| format!("train {}", short(p)));
        let test = category.test.iter().map(|s| match (&s.defect, &s.mask) {
            (None, None) => format!("good {}", short(&s.image)),
            (Some(d), Some(m)) => format!("{d} {} {} {:?}", short(&s.image), short(&m.path), m.rule),
            _ => panic!("a defect and a mask belong together: {s:?}"),
        });
        train.chain(test).collect()
    }

    /// The message of the error, which must be of the data set.
    #[track_caller]
    fn fails(&self, format: Format) -> String {
        fails(self.dir(), format)
    }
}

#[track_caller]
fn fails(dir: &Path, format: Format) -> String {
    let error = read(dir, format).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Dataset, "{error}");
    error.to_string()
}

#[track_caller]
fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}

fn mvtec() -> Tree {
    Tree::new()
        .pictures(&[
            "bottle/train/good/001.png",
            "bottle/train/good/000.png",
            "bottle/test/good/000.png",
            "bottle/test/crack/001.png",
            "bottle/test/crack/000.png",
            "bottle/test/a spot/000.jpg",
            "nut/train/good/7.PNG",
            "nut/test/cut/8.bmp",
        ])
        .mask("bottle/ground_truth/crack/000_mask.png", 255)
        .mask("bottle/ground_truth/crack/001_mask.png", 255)
        .mask("bottle/ground_truth/a spot/000_mask.png", 255)
        .mask("nut/ground_truth/cut/8.png", 255)
}

#[test]
fn mvtec_is_read() {
    let tree = mvtec();
    let found = tree.read(Format::Mvtec);
    assert_eq!(found.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["bottle", "nut"]);
    assert_eq!(
        tree.told(&found[0]),
        [
            "train bottle/train/good/000.png",
            "train bottle/train/good/001.png",
            "a spot bottle/test/a spot/000.jpg bottle/ground_truth/a spot/000_mask.png AboveHalf",
            "crack bottle/test/crack/000.png bottle/ground_truth/crack/000_mask.png AboveHalf",
            "crack bottle/test/crack/001.png bottle/ground_truth/crack/001_mask.png AboveHalf",
            "good bottle/test/good/000.png",
        ]
    );
    assert_eq!(
        tree.told(&found[1]),
        ["train nut/train/good/7.PNG", "cut nut/test/cut/8.bmp nut/ground_truth/cut/8.png AboveHalf",]
    );
    assert!(found.iter().all(|c| c.notes.is_empty()));
    assert_eq!(read(tree.path("bottle"), Format::Mvtec).unwrap(), found[..1]);
    assert_eq!(read(tree.path("bottle/"), Format::Mvtec).unwrap()[0].name, "bottle");
    assert_eq!(read(tree.path("bottle/train/.."), Format::Mvtec).unwrap()[0].name, "bottle");
}

#[test]
fn only_pictures_of_the_layout_count() {
    let tree = mvtec();
    let before = tree.read(Format::Mvtec);
    let tree = tree
        .with("bottle/readme.txt", b"text")
        .with("bottle/train/good/thumbs.db", b"text")
        .with("bottle/train/good/.000.png", b"hidden")
        .with("bottle/train/good/deeper/002.png", b"nested")
        .with("bottle/train/good/folder.png/003.png", b"nested")
        .with("bottle/test/stray.png", b"of no type")
        .with("bottle/test/.crack/000.png", b"hidden")
        .with("license/license.txt", b"text");
    let mut found = tree.read(Format::Mvtec);
    let notes = std::mem::take(&mut found[0].notes).join("\n");
    says(
        &notes,
        &["deeper with 1 picture", "folder.png with 1 picture", "layout's folders, not used: 1", "stray.png"],
    );
    assert_eq!(notes.lines().count(), 3, "{notes}");
    assert_eq!(found, before);
}

/// A whole picture file of another kind than its name says.
fn jpeg() -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    GrayImage::new(8, 8).write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
    bytes.into_inner()
}

#[test]
fn every_ending_of_pictures_counts_and_the_rest_is_named() {
    let mut tree = mvtec();
    let plain = tree.read(Format::Mvtec);
    for name in ["a.jfif", "b.JPE", "c.Jpeg", "d.DIB", "e.TIFF", "without"] {
        tree = tree.with(&format!("bottle/train/good/{name}"), &jpeg());
    }
    let tree = tree
        .with("bottle/train/good/f.webp", b"RIFF")
        .with("bottle/train/good/animation", b"GIF89a")
        .with("bottle/train/good/g.png.bak", &jpeg())
        .with("bottle/train/good/notes", b"BMW and other text")
        .with("bottle/train/good/sizes.csv", &jpeg())
        .with("bottle/train/good/@eaDir/000.png", b"left by a system")
        .with("bottle/train/@eaDir/000.png", b"left by a system")
        .with("bottle/test/__MACOSX/000.png", b"left by a system")
        .with("bottle/train/good/._000.png", b"left by a system")
        .with("bottle/train/bad/1.png", b"not of the layout");
    let found = tree.read(Format::Mvtec);
    assert_eq!(found[0].train.len(), plain[0].train.len() + 6);
    assert_eq!(found[0].test, plain[0].test);
    let notes = found[0].notes.join("\n");
    says(
        &notes,
        &[
            "2 pictures in formats that are not read",
            "animation",
            "f.webp",
            "g.png.bak",
            "bad with 1 picture",
        ],
    );
    assert_eq!(notes.lines().count(), 3, "{notes}");
}

#[test]
fn a_folder_named_as_good_parts_are_is_asked_about() {
    for name in
        ["ok", "OK", "Good", "GOOD", "normal", "pass", "iO", "i.O.", "OK-parts", "good_2", "no defect"]
    {
        let tree =
            Tree::new().pictures(&["train/good/0.png", "test/dent/2.png", &format!("test/{name}/1.png")]);
        says(
            &tree.fails(Format::Mvtec),
            &[&format!("test/{name} is named as good parts are"), "rename it to good"],
        );
        let found = read_with(tree.dir(), Format::Mvtec, &[name.to_owned()]).unwrap();
        let kinds: Vec<_> = found[0].test.iter().map(|s| s.defect.as_deref()).collect();
        assert_eq!(kinds.iter().filter(|k| k.is_none()).count(), 1, "{name}: {kinds:?}");
        assert_eq!(kinds.len(), 2);
        // Masks say what it is, unless they are black.
        let tree = tree.mask(&format!("ground_truth/{name}/1_mask.png"), 0);
        says(&tree.fails(Format::Mvtec), &["is named as good parts are"]);
        let tree = tree
            .mask(&format!("ground_truth/{name}/1_mask.png"), 255)
            .mask("ground_truth/dent/2_mask.png", 255);
        assert!(tree.read(Format::Mvtec)[0].test.iter().all(|s| s.defect.is_some()), "{name}");
    }
    for name in ["dent", "ko", "ng", "not ok", "broken", "abnormal", "passage"] {
        let tree = Tree::new().pictures(&["train/good/0.png", &format!("test/{name}/1.png")]);
        assert_eq!(tree.read(Format::Mvtec)[0].test[0].defect.as_deref(), Some(name));
    }
    let tree = Tree::new().pictures(&["train/OK/0.png", "test/good/1.png", "test/OK/1.png"]);
    says(
        &tree.fails(Format::Mvtec),
        &["no good training pictures", "train/OK is named as good", "rename it to good"],
    );
    let found = read_with(tree.dir(), Format::Mvtec, &["OK".into()]).unwrap();
    assert_eq!((found[0].train.len(), found[0].test.len()), (1, 2));
    let tree = Tree::new().pictures(&[
        "c/train/ok/0.png",
        "c/test/ok/0.png",
        "c/test/good/1.png",
        "c/test/ko/2.png",
    ]);
    says(&tree.fails(Format::Btad), &["test/good is named as good parts are", "rename it to ok"]);
}

#[test]
fn masks_without_a_picture_are_noted() {
    let tree = mvtec()
        .mask("bottle/ground_truth/crack/002_mask.png", 255)
        .mask("bottle/ground_truth/scratch/003_mask.png", 255);
    let found = tree.read(Format::Mvtec);
    assert_eq!(found[0].notes.len(), 2);
    says(&found[0].notes[0], &["Masks without a picture", "1", "crack/002_mask.png"]);
    says(&found[0].notes[1], &["Masks without a picture", "1", "scratch/003_mask.png"]);
    assert!(found[1].notes.is_empty());
}

#[test]
fn mvtec3d_is_read() {
    let tree = Tree::new()
        .pictures(&[
            "foam/train/good/rgb/000.png",
            "foam/train/good/xyz/000.tiff",
            "foam/validation/good/rgb/000.png",
            "foam/test/good/rgb/000.png",
            "foam/test/combined/rgb/001.png",
        ])
        .mask("foam/test/good/gt/000.png", 0)
        .mask("foam/test/combined/gt/001.png", 255);
    let found = tree.read(Format::Mvtec3d);
    assert_eq!(
        tree.told(&found[0]),
        [
            "train foam/train/good/rgb/000.png",
            "combined foam/test/combined/rgb/001.png foam/test/combined/gt/001.png AboveHalf",
            "good foam/test/good/rgb/000.png",
        ]
    );
    assert_eq!((found.len(), &found[0].notes), (1, &vec![]));
    assert_eq!(read(tree.path("foam"), Format::Mvtec3d).unwrap(), found);
    says(
        &tree.without("foam/test/combined/gt/001.png").fails(Format::Mvtec3d),
        &["combined/rgb/001.png", "no mask"],
    );
}

#[test]
fn btad_is_read() {
    let tree = Tree::new()
        .pictures(&[
            "01/train/ok/0000.bmp",
            "01/test/ok/0001.bmp",
            "01/test/ko/0002.bmp",
            "02/train/ok/0.png",
        ])
        .mask("01/ground_truth/ko/0002.png", 255);
    let found = tree.read(Format::Btad);
    assert_eq!(
        tree.told(&found[0]),
        [
            "train 01/train/ok/0000.bmp",
            "ko 01/test/ko/0002.bmp 01/ground_truth/ko/0002.png AboveHalf",
            "good 01/test/ok/0001.bmp",
        ]
    );
    assert_eq!(found[1].notes, ["There are no test pictures."]);
    assert_eq!(read(tree.path("01"), Format::Btad).unwrap(), found[..1]);
    says(
        &tree.without("01/ground_truth/ko/0002.png").fails(Format::Btad),
        &["01/test/ko/0002.bmp", "no mask"],
    );
}

fn ksdd2() -> Tree {
    Tree::new()
        .pictures(&[
            "train/10001.png",
            "train/10000.png",
            "train/10002.png",
            "test/20000.png",
            "test/20001.png",
            "test/20002.png",
        ])
        .mask("train/10000_GT.png", 0)
        .mask("train/10001_GT.png", 0)
        .mask("train/10002_GT.png", 255)
        .mask("test/20000_GT.png", 128)
        .mask("test/20001_GT.png", 0)
        .mask("test/20002_GT.png", 0)
}

#[test]
fn ksdd2_is_read() {
    let tree = ksdd2();
    let found = tree.read(Format::Ksdd2);
    assert_eq!((found.len(), found[0].name.as_str()), (1, "ksdd2"));
    assert_eq!(
        tree.told(&found[0]),
        [
            "train train/10000.png",
            "train train/10001.png",
            "defect test/20000.png test/20000_GT.png AboveHalf",
            "good test/20001.png",
            "good test/20002.png",
        ]
    );
    assert_eq!(found[0].notes.len(), 1);
    says(&found[0].notes[0], &["Defective training pictures", "1", "10002.png"]);
}

#[test]
fn ksdd2_has_stray_copies() {
    let plain = ksdd2().read(Format::Ksdd2);
    let tree = ksdd2()
        .pictures(&["train/10000 (copy).png"])
        .mask("train/10000_GT (copy).png", 0)
        .mask("test/20009_GT.png", 255);
    let found = tree.read(Format::Ksdd2);
    assert_eq!(found[0].train.len(), plain[0].train.len());
    assert_eq!(found[0].test.len(), plain[0].test.len());
    says(&found[0].notes.join(" "), &["not named by a number: 2", "Masks without a picture, not used: 1"]);
}

#[test]
fn ksdd2_needs_every_mask() {
    says(
        &ksdd2().without("test/20002_GT.png").fails(Format::Ksdd2),
        &["test/20002.png", "no mask", "12345_GT.png"],
    );
    let tree = ksdd2().with("train/10000_GT.png", b"no picture");
    let error = read(tree.dir(), Format::Ksdd2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Image);
    says(&error.to_string(), &["10000_GT.png"]);
}

#[test]
fn single_data_sets_may_lie_one_folder_deeper() {
    let tree = Tree::new();
    let inner = ksdd2();
    std::fs::rename(inner.dir(), tree.path("KolektorSDD2")).unwrap();
    let found = tree.read(Format::Ksdd2);
    assert_eq!((found[0].name.as_str(), found[0].train.len()), ("ksdd2", 2));
    let inner = ksdd2();
    std::fs::rename(inner.dir(), tree.path("again")).unwrap();
    says(&tree.fails(Format::Ksdd2), &["several"]);
}

const VISA_TABLE: &str = "object,split,label,image,mask
pcb1,test,anomaly,pcb1/Data/Images/Anomaly/000.JPG,pcb1/Data/Masks/Anomaly/000.png
candle,train,normal,candle/Data/Images/Normal/0001.JPG,
candle,train,normal,\"candle/Data/Images/Normal/0000, old.JPG\",
candle,test,normal,candle/Data/Images/Normal/0002.JPG,
candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png
pcb1,train,normal,pcb1/Data/Images/Normal/0.JPG,
fryum,train,normal,fryum/Data/Images/Normal/0.JPG,
";

fn visa() -> Tree {
    Tree::new()
        .with("split_csv/1cls.csv", VISA_TABLE.as_bytes())
        .pictures(&[
            "candle/Data/Images/Normal/0000, old.JPG",
            "candle/Data/Images/Normal/0001.JPG",
            "candle/Data/Images/Normal/0002.JPG",
            "candle/Data/Images/Anomaly/000.JPG",
            "pcb1/Data/Images/Normal/0.JPG",
            "pcb1/Data/Images/Anomaly/000.JPG",
        ])
        .mask("candle/Data/Masks/Anomaly/000.png", 2)
        .mask("pcb1/Data/Masks/Anomaly/000.png", 1)
}

#[test]
fn visa_is_read() {
    let tree = visa();
    let found = tree.read(Format::Visa);
    assert_eq!(found.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["candle", "pcb1"]);
    assert_eq!(
        tree.told(&found[0]),
        [
            "train candle/Data/Images/Normal/0000, old.JPG",
            "train candle/Data/Images/Normal/0001.JPG",
            "anomaly candle/Data/Images/Anomaly/000.JPG candle/Data/Masks/Anomaly/000.png NonZero",
            "good candle/Data/Images/Normal/0002.JPG",
        ]
    );
    assert!(found.iter().all(|c| c.notes.is_empty()));
    assert_eq!(read(tree.path("pcb1"), Format::Visa).unwrap(), found[1..]);
    let marked = format!("\u{feff}{}", VISA_TABLE.replace('\n', "\r\n"));
    let tree = tree.with("split_csv/1cls.csv", marked.as_bytes());
    assert_eq!(tree.read(Format::Visa), found);
    // The class numbers are far below one half.
    let sample = &found[0].test[0];
    let truth = sample.truth(&Frame::open(&sample.image).unwrap()).unwrap().unwrap();
    assert_eq!(truth.defective_pixels(), 1);
}

#[test]
fn visa_complains() {
    let table = |rows: &str| {
        visa().with("split_csv/1cls.csv", format!("object,split,label,image,mask\n{rows}").as_bytes())
    };
    let lost = visa().without("split_csv");
    says(&lost.fails(Format::Visa), &["split_csv/1cls.csv is missing", "archive"]);
    says(&fails(&lost.path("candle"), Format::Visa), &["split_csv/1cls.csv is missing"]);
    says(
        &visa().without("pcb1/Data/Images/Normal/0.JPG").fails(Format::Visa),
        &["pcb1/Data/Images/Normal/0.JPG", "not there"],
    );
    says(
        &visa().without("pcb1/Data/Masks/Anomaly/000.png").fails(Format::Visa),
        &["Masks/Anomaly/000.png", "not there"],
    );
    says(
        &table("candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,\n").fails(Format::Visa),
        &["no mask", "Anomaly/000.JPG"],
    );
    says(
        &table("candle,val,normal,candle/Data/Images/Normal/0001.JPG,\n").fails(Format::Visa),
        &["\"val\"", "Normal/0001.JPG"],
    );
    says(
        &table("candle,train,normal,candle/../candle/Data/Images/Normal/0001.JPG,\n").fails(Format::Visa),
        &["not there"],
    );
    says(&table("fryum,train,normal,x.JPG,\n").fails(Format::Visa), &["no category"]);
    says(&table("../candle,train,normal,x.JPG,\n").fails(Format::Visa), &["no category"]);
    says(
        &visa().with("split_csv/1cls.csv", b"a,b\n1,2\n").fails(Format::Visa),
        &["1cls.csv is not VisA's table"],
    );
    says(
        &table("candle,test,normal,candle/Data/Images/Normal/0001.JPG,\n").fails(Format::Visa),
        &["candle", "no good training pictures"],
    );
    let tree = visa().mask("pcb1/Data/Masks/Anomaly/001.png", 1);
    says(&tree.read(Format::Visa)[1].notes.join(" "), &["Masks without a picture, not used: 1"]);
}

/// Six tiles: a step of 150 is within one, 151 is not. Text order is not number order.
fn mtd() -> Tree {
    let tree = Tree::new()
        .pictures(&[
            "MT_Crack/Imgs/exp1_num_5.jpg",
            "MT_Uneven/Imgs/exp1_num_6.jpg",
            "MT_Uneven/Imgs/exp1_num_7.jpg",
        ])
        .mask("MT_Crack/Imgs/exp1_num_5.png", 255)
        .mask("MT_Uneven/Imgs/exp1_num_6.png", 0)
        .mask("MT_Uneven/Imgs/exp1_num_7.png", 255);
    let numbers = [900, 1050, 1201, 1300, 2000, 3000, 4000, 4150, 5000];
    numbers.iter().enumerate().fold(tree, |tree, (i, number)| {
        let name = format!("MT_Free/Imgs/exp{}_num_{number}", i % 6 + 1);
        tree.pictures(&[&format!("{name}.jpg")]).mask(&format!("{name}.png"), 0)
    })
}

#[test]
fn mtd_is_read_and_split_by_tiles() {
    let tree = mtd();
    let found = tree.read(Format::Mtd);
    assert_eq!((found.len(), found[0].name.as_str()), (1, "mtd"));
    assert_eq!(
        tree.told(&found[0]),
        [
            "train MT_Free/Imgs/exp1_num_900.jpg",
            "train MT_Free/Imgs/exp2_num_1050.jpg",
            "train MT_Free/Imgs/exp3_num_1201.jpg",
            "train MT_Free/Imgs/exp3_num_5000.jpg",
            "train MT_Free/Imgs/exp4_num_1300.jpg",
            "train MT_Free/Imgs/exp5_num_2000.jpg",
            "train MT_Free/Imgs/exp6_num_3000.jpg",
            "crack MT_Crack/Imgs/exp1_num_5.jpg MT_Crack/Imgs/exp1_num_5.png AboveHalf",
            "good MT_Free/Imgs/exp1_num_4000.jpg",
            "good MT_Free/Imgs/exp2_num_4150.jpg",
            "uneven MT_Uneven/Imgs/exp1_num_7.jpg MT_Uneven/Imgs/exp1_num_7.png AboveHalf",
        ]
    );
    assert_eq!(found[0].notes.len(), 1);
    says(&found[0].notes[0], &["masks are empty: 1", "exp1_num_6.jpg"]);
}

#[test]
fn mtd_complains() {
    says(&mtd().without("MT_Crack/Imgs/exp1_num_5.png").fails(Format::Mtd), &["exp1_num_5.jpg", "no mask"]);
    says(&mtd().without("MT_Free").fails(Format::Mtd), &["no good training pictures", "MT_Free/Imgs"]);
    says(&mtd().pictures(&["MT_Free/Imgs/tile.jpg"]).fails(Format::Mtd), &["tile.jpg", "capture number"]);
    let tree = mtd().mask("MT_Crack/Imgs/exp1_num_9.png", 255);
    says(&tree.read(Format::Mtd)[0].notes[0], &["Masks without a picture, not used: 1", "exp1_num_9.png"]);
}

#[test]
fn a_missing_folder_is_named() {
    let tree = Tree::new().with("file", b"");
    says(&fails(&tree.path("nowhere"), Format::Mvtec), &["nowhere does not exist", Format::Mvtec.layout()]);
    says(&fails(&tree.path("file"), Format::Mvtec), &["file is not a folder"]);
}

#[test]
fn every_format_says_what_it_expected() {
    for format in Format::ALL {
        let empty = Tree::new();
        let message = empty.fails(format);
        says(&message, &[empty.dir().to_str().unwrap(), format.name(), format.layout()]);
        assert!(!message.contains("looks like"), "{message}");
    }
}

#[test]
fn a_format_that_fits_is_suggested() {
    let mvtec3d = Tree::new().pictures(&["foam/train/good/rgb/0.png", "foam/test/good/rgb/0.png"]);
    let btad = Tree::new().pictures(&["01/train/ok/0.png", "01/test/ok/0.png"]);
    let trees = [
        (Format::Mvtec, mvtec()),
        (Format::Mvtec3d, mvtec3d),
        (Format::Btad, btad),
        (Format::Ksdd2, ksdd2()),
        (Format::Visa, visa()),
        (Format::Mtd, mtd()),
    ];
    for (right, tree) in &trees {
        assert!(!tree.read(*right).is_empty());
        for wrong in Format::ALL.into_iter().filter(|f| f != right) {
            says(&tree.fails(wrong), &[&format!("it looks like {right}: use that format"), wrong.layout()]);
        }
    }
}

#[test]
fn a_category_may_do_without_masks_altogether() {
    let found = mvtec().without("bottle/ground_truth").read(Format::Mvtec);
    assert_eq!(found[0].notes, ["There are no masks: only whole pictures are measured, not pixels."]);
    let defective: Vec<_> = found[0].test.iter().filter(|sample| sample.defect.is_some()).collect();
    assert!(!defective.is_empty() && defective.iter().all(|sample| sample.mask.is_none()));
}

#[test]
fn a_category_needs_training_pictures_and_all_masks_or_none() {
    let tree = mvtec().without("nut/train/good/7.PNG");
    says(&tree.fails(Format::Mvtec), &["category nut", "no good training pictures", "CATEGORY/train/good"]);
    let tree = mvtec().without("bottle/train");
    says(&tree.fails(Format::Mvtec), &["category bottle", "no good training pictures"]);
    let tree = mvtec().without("bottle/ground_truth/crack/001_mask.png");
    let message = tree.fails(Format::Mvtec);
    says(&message, &["bottle/test/crack/001.png", "no mask", "ground_truth/crack", "NAME_mask.png"]);
    assert!(!message.contains("looks like"), "{message}");
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_missed() {
    use std::os::unix::fs::symlink;
    let real = mvtec();
    let tree = Tree::new();
    symlink(real.path("bottle"), tree.path("linked")).unwrap();
    let found = tree.read(Format::Mvtec);
    assert_eq!((found[0].name.as_str(), found[0].train.len(), found[0].test.len()), ("linked", 2, 4));

    symlink("gone.txt", tree.path("notes.txt")).unwrap();
    symlink("gone", tree.path(".hidden")).unwrap();
    assert_eq!(tree.read(Format::Mvtec), found);
    symlink("gone", tree.path("nut")).unwrap();
    says(&tree.fails(Format::Mvtec), &["nut is a link", "not there"]);
    symlink("gone.png", real.path("bottle/train/good/009.png")).unwrap();
    says(&real.fails(Format::Mvtec), &["009.png is a link", "not there"]);
}

#[test]
fn names_are_as_on_the_command_line() {
    for format in Format::ALL {
        assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
    }
    let error = "mvtek".parse::<Format>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    says(&error.to_string(), &["\"mvtek\"", "mvtec, mvtec3d, btad, ksdd2, visa, mtd"]);
}

#[test]
fn masks_are_binarized_by_rule() {
    let tree = Tree::new();
    let values = [0u8, 1, 126, 127, 128, 255];
    GrayImage::from_raw(6, 1, values.to_vec()).unwrap().save(tree.path("8.png")).unwrap();
    let half = Mask::open(tree.path("8.png"), MaskRule::AboveHalf).unwrap();
    assert_eq!((half.width(), half.height()), (6, 1));
    assert_eq!(half.bits(), [false, false, false, false, true, true]);
    assert_eq!(half.defective_pixels(), 2);
    let any = Mask::open(tree.path("8.png"), MaskRule::NonZero).unwrap();
    assert_eq!(any.bits(), [false, true, true, true, true, true]);

    let wide: Vec<u8> = [0u16, 32767, 32768, 65535].iter().flat_map(|v| v.to_ne_bytes()).collect();
    image::save_buffer(tree.path("16.png"), &wide, 4, 1, ColorType::L16).unwrap();
    let mask = Mask::open(tree.path("16.png"), MaskRule::AboveHalf).unwrap();
    assert_eq!(mask.bits(), [false, false, true, true]);

    let red = RgbImage::from_raw(2, 1, vec![255, 0, 0, 90, 90, 90]).unwrap();
    red.save(tree.path("red.bmp")).unwrap();
    assert_eq!(Mask::open(tree.path("red.bmp"), MaskRule::AboveHalf).unwrap().bits(), [true, false]);

    let error = Mask::open(tree.path("none.png"), MaskRule::AboveHalf).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}

/// A picture of 40 × 40 pixels with what `draw` makes of each place.
fn drawn(draw: impl Fn(u32, u32) -> [u8; 4]) -> RgbaImage {
    RgbaImage::from_fn(40, 40, |x, y| Rgba(draw(x, y)))
}

/// Whether a place is in the square of 100 pixels that the masks here show.
fn is_dent(x: u32, y: u32) -> bool {
    (10..20).contains(&x) && (10..20).contains(&y)
}

fn gray(value: u8) -> [u8; 4] {
    [value, value, value, 255]
}

/// Mask files that Python reads in its tests, too.
fn mask_files(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/masks").join(kind);
    let files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(!files.is_empty());
    files
}

#[test]
fn a_mask_is_read_however_it_was_saved() {
    for file in mask_files("clear") {
        let mask = Mask::open(&file, MaskRule::AboveHalf).unwrap();
        assert_eq!((mask.width(), mask.height()), (40, 40));
        let wrong = (0..1600).filter(|i| mask.bits()[*i as usize] != is_dent(i % 40, i / 40)).count();
        assert_eq!(wrong, 0, "{}", file.display());
    }
    for file in mask_files("empty") {
        let mask = Mask::open(&file, MaskRule::AboveHalf).unwrap();
        assert_eq!(mask.defective_pixels(), 0, "{}", file.display());
    }
}

#[test]
fn a_mask_that_is_not_clear_is_refused_by_name() {
    for file in mask_files("unclear") {
        let error =
            Mask::open(&file, MaskRule::AboveHalf).err().unwrap_or_else(|| panic!("{}", file.display()));
        assert_eq!(error.kind(), ErrorKind::Dataset, "{error}");
        says(&error.to_string(), &[file.to_str().unwrap(), "defects white", "non-zero"]);
        if file.ends_with("wide-classes.png") {
            // Who says that every number is a defect is believed, in 16 bits as well.
            assert_eq!(Mask::open(&file, MaskRule::NonZero).unwrap().defective_pixels(), 200);
        }
    }
}

#[test]
fn masks_that_mark_everything_or_nothing_are_not_believed() {
    let tree = Tree::new();
    let save = |name: &str, inverted: bool| {
        let path = tree.path(&format!("ground_truth/dent/{name}_mask.png"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        drawn(|x, y| gray(if is_dent(x, y) != inverted { 255 } else { 0 })).save(path).unwrap();
    };
    let tree = &tree;
    for name in ["train/good/0.png", "test/good/0.png", "test/dent/1.png", "test/dent/2.png"] {
        std::fs::create_dir_all(tree.path(name).parent().unwrap()).unwrap();
        GrayImage::new(40, 40).save(tree.path(name)).unwrap();
    }
    let check = || tree.read(Format::Mvtec)[0].check_masks();
    save("1", false);
    save("2", false);
    assert_eq!(check().unwrap(), Vec::<String>::new());
    save("2", true);
    says(&check().unwrap().join("\n"), &["1 mask", "2_mask.png", "inverted?"]);
    save("1", true);
    says(&check().unwrap_err().to_string(), &["_mask.png", "look inverted", "defects white"]);
    for name in ["1", "2"] {
        GrayImage::new(40, 40).save(tree.path(&format!("ground_truth/dent/{name}_mask.png"))).unwrap();
    }
    says(&check().unwrap_err().to_string(), &["1_mask.png", "no mask has a defective pixel"]);
}

#[test]
fn a_mask_must_be_as_large_as_its_picture() {
    let tree = Tree::new().pictures(&["part.png"]);
    GrayImage::new(8, 7).save(tree.path("part_mask.png")).unwrap();
    let frame = Frame::open(tree.path("part.png")).unwrap();
    let source = MaskSource { path: tree.path("part_mask.png"), rule: MaskRule::AboveHalf };
    let mut sample = Sample { image: tree.path("part.png"), defect: Some("dent".into()), mask: Some(source) };
    let error = sample.truth(&frame).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Dataset);
    says(&error.to_string(), &["part_mask.png", "8×7", "part.png", "8×8"]);

    sample.mask = None;
    assert_eq!(sample.truth(&frame).unwrap(), None);

    sample.defect = None;
    assert_eq!(sample.truth(&frame).unwrap(), Some(Mask::empty(8, 8)));
}
