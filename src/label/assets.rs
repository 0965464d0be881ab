//! The files of the page.

use axum::Router;

use crate::http::asset;

const SCRIPTS: &[(&str, &str)] = &[
    ("/app.js", include_str!("assets/app.js")),
    ("/boxes.js", include_str!("assets/boxes.js")),
    ("/conflict.js", include_str!("assets/conflict.js")),
    ("/desk.js", include_str!("assets/desk.js")),
    ("/edit.js", include_str!("assets/edit.js")),
    ("/elements.js", include_str!("../elements.js")),
    ("/files.js", include_str!("assets/files.js")),
    ("/german.js", include_str!("assets/german.js")),
    ("/keys.js", include_str!("assets/keys.js")),
    ("/library.js", include_str!("assets/library.js")),
    ("/list.js", include_str!("assets/list.js")),
    ("/mask.js", include_str!("assets/mask.js")),
    ("/notices.js", include_str!("assets/notices.js")),
    ("/page.js", include_str!("assets/page.js")),
    ("/painter.js", include_str!("assets/painter.js")),
    ("/panel.js", include_str!("assets/panel.js")),
    ("/picture.js", include_str!("assets/picture.js")),
    ("/saver.js", include_str!("assets/saver.js")),
    ("/server.js", include_str!("assets/server.js")),
    ("/stage.js", include_str!("assets/stage.js")),
    ("/stopwatch.js", include_str!("assets/stopwatch.js")),
    ("/texts.js", include_str!("../texts.js")),
    ("/tools.js", include_str!("assets/tools.js")),
    ("/train.js", include_str!("assets/train.js")),
    ("/turn.js", include_str!("assets/turn.js")),
    ("/view.js", include_str!("assets/view.js")),
];

/// The routes of the page's files.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let style = concat!(include_str!("../colors.css"), include_str!("assets/style.css"));
    let router = Router::new()
        .route("/", asset("text/html; charset=utf-8", include_str!("assets/index.html")))
        .route("/style.css", asset("text/css; charset=utf-8", style))
        .route("/icon.svg", asset("image/svg+xml", include_str!("assets/icon.svg")));
    SCRIPTS.iter().fold(router, |router, (path, text)| {
        router.route(path, asset("text/javascript; charset=utf-8", text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/label/assets");
        let mut scripts: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| format!("/{}", entry.unwrap().file_name().to_str().unwrap()))
            .filter(|name| name.ends_with(".js"))
            .collect();
        scripts.extend(["/elements.js", "/texts.js"].map(str::to_owned));
        assert_eq!(scripts.len(), SCRIPTS.len());
        for script in scripts {
            assert!(SCRIPTS.iter().any(|(path, _)| *path == script), "{script} is not served");
        }
    }
}
