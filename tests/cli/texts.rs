//! What the pages say, in each language: English stands in the pages, and each other language has a file for
//! the service's pages and one for the labeler's.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::chromium::Tab;

/// Pages that share a file of texts.
#[derive(Clone, Copy)]
pub enum Pages {
    Service,
    Labeler,
}

impl Pages {
    fn folders(self) -> &'static [&'static str] {
        match self {
            Pages::Service => &["src/output/web/assets", "src/teach/assets"],
            Pages::Labeler => &["src/label/assets"],
        }
    }

    /// The English texts and the German ones.
    fn german(self) -> Vec<(String, String)> {
        let file = match self {
            Pages::Service => "src/german.js",
            Pages::Labeler => "src/label/assets/german.js",
        };
        let source = read(&root().join(file));
        let body = &source[source.find("= {").unwrap()..];
        let literals: Vec<String> = strings(body).into_iter().map(|(_, text)| text).collect();
        literals.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
    }

    /// The files of one kind.
    fn sources(self, extension: &str) -> Vec<(PathBuf, String)> {
        let entries =
            self.folders().iter().flat_map(|folder| std::fs::read_dir(root().join(folder)).unwrap());
        entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == extension) && !path.ends_with("german.js"))
            .map(|path| (path.clone(), read(&path)))
            .collect()
    }
}

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// The texts in quotation marks of a script, with where they begin; not those of comments.
fn strings(script: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut rest = script.char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        match c {
            '/' if script[at..].starts_with("//") => while rest.next_if(|(_, c)| *c != '\n').is_some() {},
            '/' if script[at..].starts_with("/*") => {
                let end = at + script[at..].find("*/").unwrap();
                while rest.next_if(|(i, _)| *i < end + 2).is_some() {}
            }
            '"' | '`' | '\'' => {
                let mut text = String::new();
                let mut depth = 0;
                while let Some((_, d)) = rest.next() {
                    match d {
                        '\\' => text.extend(rest.next().map(|(_, e)| e)),
                        // What is inserted into a template is a text of its own.
                        '$' if c == '`' && rest.next_if(|(_, e)| *e == '{').is_some() => {
                            let inside = rest.peek().unwrap().0;
                            depth += 1;
                            let mut end = inside;
                            while depth > 0 {
                                let (i, e) = rest.next().unwrap();
                                depth += i32::from(e == '{') - i32::from(e == '}');
                                end = i;
                            }
                            found.extend(
                                strings(&script[inside..end]).into_iter().map(|(i, s)| (inside + i, s)),
                            );
                            text.push('\u{0}');
                        }
                        d if d == c => break,
                        d => text.push(d),
                    }
                }
                found.push((at, text));
            }
            _ => {}
        }
    }
    found
}

/// Whether anybody reads it.
fn is_text(text: &str) -> bool {
    text.chars().filter(|c| c.is_alphabetic()).count() > 1
}

/// What stands in a page for people to read: texts, and attributes that are shown or read out.
fn written(page: &str) -> Vec<String> {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").replace("&amp;", "&");
    let (head, body) = page.split_at(page.find("<body>").unwrap());
    let title = head.split_once("<title>").unwrap().1.split_once("</title>").unwrap().0;
    let mut found = vec![title.to_owned()];
    for piece in body.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').unwrap();
        if !tag.starts_with("code") {
            found.push(plain(text));
        }
        for name in ["aria-label", "aria-roledescription", "placeholder", "alt", "title"] {
            if let Some((_, value)) = tag.split_once(&format!(" {name}=\"")) {
                found.push(plain(value.split_once('"').unwrap().0));
            }
            if let Some((_, value)) = tag.split_once(&format!("\n{name}=\"")) {
                found.push(plain(value.split_once('"').unwrap().0));
            }
        }
    }
    found.retain(|text| is_text(text));
    found
}

/// The texts that a script gives to `t` and `count`.
fn spoken(script: &str) -> Vec<String> {
    let strings = strings(script);
    let mut found = Vec::new();
    for (name, literals) in [("t(", 1), ("count(", 2), ("counted(", 2)] {
        for (at, _) in script.match_indices(name) {
            if script[..at].ends_with(|c: char| c.is_alphanumeric() || c == '.' || c == '_') {
                continue;
            }
            // To the end of the call.
            let mut depth = 0;
            let end = script[at..].char_indices().find(|(i, c)| {
                let quoted = strings.iter().any(|(s, text)| (*s..s + text.len() + 2).contains(&(at + i)));
                depth += i32::from(!quoted && *c == '(') - i32::from(!quoted && *c == ')');
                depth == 0 && *c == ')'
            });
            let Some((end, _)) = end else { continue };
            let inside = strings.iter().filter(|(s, _)| (at..at + end).contains(s));
            let is_direct = script[at + name.len()..].trim_start().starts_with('"');
            if name != "t(" || is_direct {
                found.extend(inside.take(literals).map(|(_, text)| text.clone()));
            }
        }
    }
    found
}

/// The names of the service's own that the pages translate, from where they are defined.
fn named_by_the_service() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in ["src/record/status.rs", "src/record/mod.rs"] {
        let source = read(&root().join(file));
        let kinds = source.split("fn name(self)").skip(1).chain(source.split("fn as_str(self)").skip(1));
        for body in kinds {
            let body = &body[..body.find("\n    }\n").unwrap()];
            names.extend(body.split("=> \"").skip(1).map(|rest| rest.split_once('"').unwrap().0.to_owned()));
        }
    }
    names
}

/// Every literal of the program's sources: names of components, steps and roles come from them.
fn program() -> String {
    fn all(folder: &Path, text: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                all(&path, text);
            } else if path.extension().is_some_and(|e| e == "rs") {
                text.push_str(&read(&path));
            }
        }
    }
    let mut text = String::new();
    all(&root().join("src"), &mut text);
    text
}

#[test]
fn both_languages_have_the_same_texts_and_no_text_is_outside_them() {
    let program = program();
    let mut wrong = Vec::new();
    for pages in [Pages::Service, Pages::Labeler] {
        let german = pages.german();
        let keys: BTreeSet<&str> = german.iter().map(|(english, _)| english.as_str()).collect();
        assert_eq!(keys.len(), german.len(), "a text stands twice");
        let mut used = BTreeSet::new();
        for (path, page) in pages.sources("html") {
            for text in written(&page) {
                if !keys.contains(text.as_str()) {
                    wrong.push(format!("{}: no German for {text:?}", path.display()));
                }
                used.insert(text);
            }
        }
        for (path, script) in pages.sources("js") {
            for text in spoken(&script) {
                if !keys.contains(text.as_str()) {
                    wrong.push(format!("{}: no German for {text:?}", path.display()));
                }
            }
            for (_, text) in strings(&script) {
                // Two words in a row are a sentence, but names of classes are not.
                let words: Vec<&str> = text.split(' ').collect();
                let is_word = |w: &str| w.chars().all(|c| c.is_alphabetic()) && !w.is_empty();
                let reads = words
                    .windows(2)
                    .any(|w| is_word(w[0]) && is_word(w[1].trim_end_matches(['.', ',', ':'])));
                let code = ["notice ", "verdict stopped", "error saving", "weakrest label ", "main button"];
                if reads && !keys.contains(text.as_str()) && !code.iter().any(|c| text.starts_with(c)) {
                    wrong.push(format!("{}: {text:?} is in no language file", path.display()));
                }
                used.extend(text.split('+').map(str::to_owned));
                used.insert(text);
            }
        }
        if matches!(pages, Pages::Service) {
            for name in named_by_the_service() {
                if !keys.contains(name.as_str()) {
                    wrong.push(format!("no German for the service's {name:?}"));
                }
            }
        }
        for (english, german) in &german {
            let told = program.contains(&format!("\"{english}\""));
            if !used.contains(english) && !told {
                wrong.push(format!("no page uses {english:?}"));
            }
            let places =
                |text: &str| (0..9).filter(|i| text.contains(&format!("{{{i}}}"))).collect::<Vec<_>>();
            if places(english) != places(german) || german.is_empty() {
                wrong.push(format!("{english:?} and {german:?} have other values"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The mark of a text that went through the file of its language.
const MARK: char = '\u{2060}';

/// A language with words half as long again, each text marked.
fn long(pages: Pages) -> String {
    let longer = |word: &str| {
        if word.contains('{') || !is_text(word) {
            return word.to_owned();
        }
        let letters = word.chars().filter(|c| c.is_alphabetic()).count();
        let more: String = "osterweiterung".chars().cycle().take(letters.div_ceil(2)).collect();
        let end =
            word.rfind(char::is_alphabetic).map_or(0, |i| i + word[i..].chars().next().unwrap().len_utf8());
        format!("{}{more}{}", &word[..end], &word[end..])
    };
    let texts: serde_json::Map<String, serde_json::Value> = pages
        .german()
        .into_iter()
        .map(|(english, _)| {
            let words = english.split(' ').map(longer).collect::<Vec<_>>().join(" ");
            (english, format!("{MARK}{words}").into())
        })
        .collect();
    format!("export const german = {};", serde_json::Value::from(texts))
}

/// What a page is read in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Language {
    English,
    German,
    /// No language: each English word is half as long again.
    Long,
}

pub const LANGUAGES: [Language; 3] = [Language::English, Language::German, Language::Long];

/// Has a page in another language, loaded anew.
pub fn speak(tab: &Tab, pages: Pages, language: Language) {
    if language == Language::Long {
        tab.replace_script("/german.js", &long(pages));
    }
    let code = if language == Language::English { "en" } else { "de" };
    tab.evaluate(&format!("localStorage.setItem('language', '{code}')"));
    tab.reload();
    tab.until(&format!("document.documentElement.lang === '{code}'"));
}

/// Texts that no file of a language knows, on a page in the long one. `names` finds the elements whose texts
/// come from the program: names, reasons, addresses.
#[track_caller]
pub fn everything_is_translated(tab: &Tab, names: &str) {
    let script = format!(
        "(() => {{ const found = []; const own = (e) => e.closest({names:?}) || e.closest('#language, script, code, datalist, svg, noscript');
         const is_text = (s) => /\\p{{L}}\\p{{L}}/u.test(s.replace(/\\b(px|ms|min|weakrest|UTC|CPU)\\b/g, ''));
         const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
         for (let n = walker.nextNode(); n; n = walker.nextNode())
           if (is_text(n.textContent) && !n.textContent.includes('{MARK}') && !own(n.parentElement)) found.push(n.textContent);
         for (const name of ['aria-label', 'title', 'placeholder', 'alt'])
           for (const e of document.querySelectorAll(`[${{name}}]`))
             if (is_text(e.getAttribute(name)) && !e.getAttribute(name).includes('{MARK}') && !own(e)) found.push(`${{name}}: ${{e.getAttribute(name)}}`);
         return found.join('\\n'); }})()"
    );
    assert_eq!(tab.evaluate(&script), "", "not translated");
}

/// Texts that something cuts off, or that leave what they stand in. `short` finds the elements that may shorten
/// theirs.
#[track_caller]
pub fn nothing_is_cut_off(tab: &Tab, what: &str, short: &str) {
    let script = format!(
        "(() => {{ const found = new Set();
         const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
         for (let n = walker.nextNode(); n; n = walker.nextNode()) {{
           const e = n.parentElement;
           if (!n.textContent.trim() || !e.checkVisibility({{visibilityProperty: true}}) || e.closest({short:?}) || e.closest('option, dialog:not([open])')) continue;
           const range = document.createRange(); range.selectNodeContents(n);
           const text = range.getBoundingClientRect();
           if (!text.width) continue;
           let scrolls = false;
           for (let a = e; a && a !== document.body; a = a.parentElement) {{
             const style = getComputedStyle(a);
             if (style.display === 'inline' || style.display === 'contents') continue;
             const box = a.getBoundingClientRect();
             const out = text.right > box.right + 1.5 || text.left < box.left - 1.5;
             const hides = style.overflowX === 'hidden' || style.overflowX === 'clip';
             const below = (style.overflowY === 'hidden' || style.overflowY === 'clip') && (text.bottom > box.bottom + 4 || text.top < box.top - 4);
             if (!scrolls && (out && (hides || style.overflowX === 'visible') || below)) found.add(`${{a.tagName}} ${{a.id}} ${{a.className}}: ${{n.textContent}}`);
             if (['auto', 'scroll'].includes(style.overflowX) || ['auto', 'scroll'].includes(style.overflowY) || style.position === 'fixed') scrolls = true;
           }}
           if (!scrolls && (text.right > document.documentElement.clientWidth + 1 || text.left < -1)) found.add(`window: ${{n.textContent}}`);
         }}
         return [...found].join('\\n'); }})()"
    );
    assert_eq!(tab.evaluate(&script), "", "{what}: cut off");
}
