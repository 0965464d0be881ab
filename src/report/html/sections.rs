//! The page around the pictures.

use std::io::{self, Write};

use image::Rgb;

use super::text::{Text, multiple};
use super::{Card, Kind, Label, Order, Report, Table, contradiction};
use crate::imaging::{COLDEST, HOTTEST, heat};
use crate::report::chart::{self, Lane};

const CSS: &str = concat!(include_str!("../../colors.css"), include_str!("../report.css"));
const JS: &str = include_str!("../report.js");

/// Writes the page. `copy` writes a picture's card.
pub(super) fn write_page<W: Write>(
    out: &mut W,
    report: &Report,
    cards: &[Card],
    mut copy: impl FnMut(&mut W, &Card) -> io::Result<()>,
) -> io::Result<()> {
    write_head(out, report, cards)?;
    let is_wrong = |card: &&Card| report.order == Order::WorstFirst && card.contradiction().is_some();
    let (wrong, others): (Vec<&Card>, Vec<&Card>) = cards.iter().partition(is_wrong);
    let mut legend = cards.iter().any(|c| c.pictured);
    let labels_defects = cards.iter().any(|c| c.label == Label::Defective);
    for (kind, title) in [(Kind::Pass, "Missed defects"), (Kind::Reject, "False rejects")] {
        let group: Vec<&&Card> = wrong.iter().filter(|c| c.kind == kind).collect();
        if group.is_empty() {
            continue;
        }
        writeln!(out, "<section>\n<h2>{title}</h2>")?;
        if std::mem::take(&mut legend) {
            write_legend(out, labels_defects)?;
        }
        group.into_iter().try_for_each(|card| copy(out, card))?;
        writeln!(out, "</section>")?;
    }

    for table in &report.tables {
        write_table(out, table)?;
    }
    write_chart(out, cards)?;
    write_list(out, cards)?;

    if !others.is_empty() {
        let title = if wrong.is_empty() { "Pictures" } else { "Other pictures" };
        writeln!(out, "<section>\n<div class=\"bar\"><h2>{title}</h2>")?;
        write_filters(out, &others)?;
        writeln!(out, "</div>")?;
        if legend {
            write_legend(out, labels_defects)?;
        }
        writeln!(out, r#"<div class="cards" data-show="">"#)?;
        others.into_iter().try_for_each(|card| copy(out, card))?;
        writeln!(out, "</div>\n</section>")?;
    }
    write_facts(out, &report.facts)?;
    write!(
        out,
        "<footer>weakrest {}</footer>\n<script>\n{JS}</script>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

fn write_head(out: &mut impl Write, report: &Report, cards: &[Card]) -> io::Result<()> {
    let title = Text(&report.title);
    // The browser enforces what the module promises: nothing is loaded from elsewhere.
    write!(
        out,
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<meta name="color-scheme" content="light dark" />
<title>{title}</title>
<style>
{CSS}</style>
</head>
<body>
<header>
<h1>{title}</h1>
"#
    )?;
    if let Some(note) = &report.note {
        writeln!(out, r#"<p class="note">{}</p>"#, Text(note))?;
    }
    write_counts(out, cards)?;
    writeln!(out, "</header>")
}

fn write_chart(out: &mut impl Write, cards: &[Card]) -> io::Result<()> {
    let lane = |label, class, wanted: Label| Lane {
        label,
        class,
        ratios: cards.iter().filter(|c| c.label == wanted).filter_map(|c| c.ratio).collect(),
    };
    let labeled = cards.iter().any(|c| c.label != Label::Unknown);
    let unlabeled = if labeled { ("not labeled", Some("unknown")) } else { ("pictures", None) };
    chart::write(
        out,
        &[
            lane("labeled good", Some("good"), Label::Good),
            lane("labeled defective", Some("defective"), Label::Defective),
            lane(unlabeled.0, unlabeled.1, Label::Unknown),
        ],
    )
}

/// One row for each picture, linked to its card.
fn write_list(out: &mut impl Write, cards: &[Card]) -> io::Result<()> {
    if cards.is_empty() {
        return Ok(());
    }
    let labeled = cards.iter().any(|c| c.label != Label::Unknown);
    writeln!(out, "<section>\n<h2>All pictures</h2>\n<div class=\"scroll list\"><table>")?;
    let label = if labeled { r#"<th scope="col">label</th>"# } else { "" };
    writeln!(
        out,
        r#"<thead><tr><th scope="col">picture</th>{label}<th scope="col">verdict</th><th scope="col">score / threshold</th></tr></thead>"#
    )?;
    writeln!(out, "<tbody>")?;
    for card in cards {
        write!(out, r##"<tr><td><a href="#{}"><bdi>{}</bdi></a></td>"##, card.anchor, Text(&card.name))?;
        if labeled {
            let defect =
                card.defect.as_deref().unwrap_or(if card.label == Label::Good { "good" } else { "–" });
            write!(out, "<td><bdi>{}</bdi></td>", Text(defect))?;
        }
        let wrong = card.contradiction().map(|wrong| format!(", {wrong}")).unwrap_or_default();
        let times = card.ratio.map_or("–".into(), multiple);
        writeln!(out, "<td>{}{wrong}</td><td>{times}</td></tr>", card.kind.word())?;
    }
    writeln!(out, "</tbody>\n</table></div>\n</section>")
}

/// Package and settings, folded.
fn write_facts(out: &mut impl Write, facts: &[(String, String)]) -> io::Result<()> {
    if facts.is_empty() {
        return Ok(());
    }
    writeln!(out, "<details>\n<summary>Package and settings</summary>\n<dl class=\"facts\">")?;
    for (label, value) in facts {
        writeln!(out, "<dt>{}</dt><dd>{}</dd>", Text(label), Text(value))?;
    }
    writeln!(out, "</dl>\n</details>")
}

fn write_counts(out: &mut impl Write, cards: &[Card]) -> io::Result<()> {
    let of = |kind| cards.iter().filter(|c| c.kind == kind).count();
    writeln!(out, r#"<ul class="counts">"#)?;
    let noun = if cards.len() == 1 { "picture" } else { "pictures" };
    writeln!(out, "<li><b>{}</b><span>{noun}</span></li>", cards.len())?;
    for kind in [Kind::Pass, Kind::Reject, Kind::Fault] {
        let count = of(kind);
        let zero = if count == 0 { " zero" } else { "" };
        writeln!(out, r#"<li class="{0}{zero}"><b>{count}</b><span>{0}</span></li>"#, kind.word())?;
    }
    for (kind, label, all) in
        [(Kind::Pass, Label::Defective, "defective"), (Kind::Reject, Label::Good, "good")]
    {
        let labeled = cards.iter().filter(|c| c.label == label).count();
        let Some(name) = contradiction(kind, label).filter(|_| labeled > 0) else { continue };
        let wrong = cards.iter().filter(|c| c.label == label && c.kind == kind).count();
        let zero = if wrong == 0 { r#" class="zero""# } else { "" };
        let plural = if wrong == 1 { "" } else { "s" };
        writeln!(out, "<li{zero}><b>{wrong}</b><span>{name}{plural}, of {labeled} {all}</span></li>")?;
    }
    writeln!(out, "</ul>")
}

fn write_table(out: &mut impl Write, table: &Table) -> io::Result<()> {
    writeln!(out, "<section>\n<h2>{}</h2>\n<div class=\"scroll\"><table>", Text(&table.title))?;
    write!(out, "<thead><tr>")?;
    for column in &table.columns {
        write!(out, r#"<th scope="col">{}</th>"#, Text(column))?;
    }
    writeln!(out, "</tr></thead>\n<tbody>")?;
    for row in &table.rows {
        write!(out, "<tr>")?;
        for cell in row {
            write!(out, "<td>{}</td>", Text(cell))?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</tbody>\n</table></div>\n</section>")
}

/// Buttons, hidden without the script. One kind of picture needs no filter.
fn write_filters(out: &mut impl Write, cards: &[&Card]) -> io::Result<()> {
    let of = |kind| cards.iter().filter(|c| c.kind == kind).count();
    let wrong = cards.iter().filter(|c| c.contradiction().is_some()).count();
    let kinds = [
        ("reject", of(Kind::Reject)),
        ("pass", of(Kind::Pass)),
        ("fault", of(Kind::Fault)),
        ("wrong", wrong),
    ];
    if kinds.iter().filter(|k| k.1 > 0).count() < 2 {
        return Ok(());
    }
    writeln!(out, r#"<div class="filters" role="group" aria-label="Show" hidden="">"#)?;
    writeln!(out, r#"<button type="button" value="" aria-pressed="true">all {}</button>"#, cards.len())?;
    for (name, count) in kinds.iter().filter(|k| k.1 > 0) {
        writeln!(
            out,
            r#"<button type="button" value="{name}" aria-pressed="false">{name} {count}</button>"#
        )?;
    }
    writeln!(out, "</div>")
}

fn write_legend(out: &mut impl Write, truth: bool) -> io::Result<()> {
    const STOPS: u8 = 10;
    write!(
        out,
        r#"<p class="legend"><span>{COLDEST}× <i class="ramp" style="background:linear-gradient(to right"#
    )?;
    for stop in 0..=STOPS {
        let ratio = COLDEST + (HOTTEST - COLDEST) * f32::from(stop) / f32::from(STOPS);
        let (Rgb([r, g, b]), alpha) = heat(ratio);
        write!(out, ",rgba({r},{g},{b},{:.2})", alpha * 1.6)?;
    }
    writeln!(out, r#"),#77797c"></i> {HOTTEST}× the threshold</span>"#)?;
    writeln!(out, r#"<span><i class="key"><i></i></i> above the threshold</span>"#)?;
    if truth {
        writeln!(out, r#"<span><i class="key truth"><i></i></i> labeled defect</span>"#)?;
    }
    writeln!(out, "</p>")
}
