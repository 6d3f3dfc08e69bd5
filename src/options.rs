//! The options of a request, both raw, as they come from outside, and checked, as the program uses them.

use std::fmt;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::error::{Error, Result};

/// A kind of answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OutputKind {
    /// A palette PNG at the photo's upright size, whose indices are class ids.
    Mask,
    /// The mask's other form: a grey PNG, whose grey levels are class ids.
    Index,
    /// The photo as a JPEG, at most 2048 px long, with the parts' colours over it.
    Overlay,
    /// A palette PNG at the photo's upright size, whose indices are the persons' numbers, with 0 for nobody.
    Instances,
    /// The photo as an RGBA PNG in which everything but the people is transparent.
    Cutout,
    /// The JSON report.
    Json,
    /// A COCO instances file, as JSON.
    Coco,
    /// The list of segments that Hugging Face's inference API answers, as JSON.
    Hf,
}

impl OutputKind {
    pub const ALL: [Self; 8] =
        [Self::Mask, Self::Index, Self::Overlay, Self::Instances, Self::Cutout, Self::Json, Self::Coco, Self::Hf];

    /// The kind's name in queries, reports and settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mask => "mask",
            Self::Index => "index",
            Self::Overlay => "overlay",
            Self::Instances => "instances",
            Self::Cutout => "cutout",
            Self::Json => "json",
            Self::Coco => "coco",
            Self::Hf => "hf",
        }
    }

    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Mask | Self::Index | Self::Instances | Self::Cutout => "image/png",
            Self::Overlay => "image/jpeg",
            Self::Json | Self::Coco | Self::Hf => "application/json",
        }
    }

    /// The end of a written file's name, which follows the photo's own name. Two kinds with one suffix are two forms of
    /// one file, of which a request may name one.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Mask | Self::Index => ".mask.png",
            Self::Overlay => ".overlay.jpg",
            Self::Instances => ".instances.png",
            Self::Cutout => ".cutout.png",
            Self::Json => ".json",
            Self::Coco => ".coco.json",
            Self::Hf => ".hf.json",
        }
    }

    /// Whether it may be stored beside a photo's other outputs. The others are answers, for clients that wait for them:
    /// what they say of a photo, its mask and a report with `rle` say, too.
    #[must_use]
    pub const fn is_stored(self) -> bool {
        !matches!(self, Self::Coco | Self::Hf)
    }
}

impl std::str::FromStr for OutputKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| format!("`{text}` is not one of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// Says which of `kinds` are two forms of one file, if there are such.
#[must_use]
pub(crate) fn two_forms(kinds: &[OutputKind]) -> Option<String> {
    let twin = |(i, one): (usize, &OutputKind)| {
        let other = kinds[..i].iter().find(|other| other.suffix() == one.suffix())?;
        Some(format!("{} and {} are two forms of one file: name one of them", other.name(), one.name()))
    };
    kinds.iter().enumerate().find_map(twin)
}

/// Says which of `kinds` cannot be stored, if there are such.
#[must_use]
pub(crate) fn not_stored(kinds: &[OutputKind]) -> Option<String> {
    let names: Vec<_> = kinds.iter().filter(|kind| !kind.is_stored()).map(|kind| kind.name()).collect();
    let fault =
        "an answer over HTTP or a file of `m2fp parse`, and is not stored; `json` with `rle` has the same masks";
    (!names.is_empty()).then(|| format!("{} is {fault}", names.join(", ")))
}

/// How the photo is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Once, at the native working size, or at a smaller one if the memory or `max_side` asks for it.
    #[default]
    Auto,
    /// Once whole, and once in overlapping tiles at up to twice the native size. Parts come from the tiles, persons from
    /// both.
    Tiled,
}

/// One name or several. A text may hold several names between commas; JSON may also give a list, of no more names than
/// there are outputs.
#[derive(Debug, Clone)]
pub enum Names {
    One(String),
    Many(Vec<String>),
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct NamesVisitor;
        impl<'de> Visitor<'de> for NamesVisitor {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name, or a list of names")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<Names, E> {
                Ok(Names::One(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = list.next_element()? {
                    if names.len() == OutputKind::ALL.len() {
                        return Err(de::Error::custom(too_many_outputs()));
                    }
                    names.push(name);
                }
                Ok(Names::Many(names))
            }
        }
        deserializer.deserialize_any(NamesVisitor)
    }
}

fn too_many_outputs() -> String {
    format!("`output` names more than the {} outputs that there are", OutputKind::ALL.len())
}

impl Names {
    fn iter(&self) -> impl Iterator<Item = &str> {
        let (one, many) = match self {
            Self::One(text) => (Some(text.split(',')), None),
            Self::Many(list) => (None, Some(list.iter().map(String::as_str))),
        };
        one.into_iter().flatten().chain(many.into_iter().flatten()).map(str::trim)
    }
}

/// The options as a request gives them (in `"options"` of a JSON body, a query or on the command line).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawOptions {
    pub output: Option<Names>,
    pub mode: Option<String>,
    pub flip: Option<bool>,
    #[serde(default, deserialize_with = "crate::units::maybe_whole")]
    pub max_side: Option<u32>,
    pub score: Option<f32>,
    pub alpha: Option<f32>,
    pub rle: Option<bool>,
}

impl RawOptions {
    /// The options' names, the same in a query, a form, a JSON body and a batch job's arguments.
    pub(crate) const NAMES: [&str; 7] = ["output", "mode", "flip", "max_side", "score", "alpha", "rle"];

    /// Reads query parameters. Unknown and repeated names are refused.
    ///
    /// # Errors
    /// `BadRequest` that names every fault.
    pub fn from_query(query: &str) -> Result<Self> {
        Self::from_pairs(form_urlencoded::parse(query.as_bytes()))
    }

    /// Reads names and values as text. Unknown and repeated names are refused.
    ///
    /// # Errors
    /// `BadRequest` that names every fault.
    pub(crate) fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Result<Self> {
        let mut object = serde_json::Map::new();
        let mut faults = Vec::new();
        for (name, text) in pairs {
            let (name, text) = (name.as_ref(), text.as_ref());
            let value = match name {
                "output" | "mode" => Some(serde_json::Value::from(text)),
                "max_side" => text.trim().parse::<u32>().ok().map(Into::into),
                "score" | "alpha" => {
                    text.trim().parse::<f64>().ok().and_then(|x| serde_json::Number::from_f64(x).map(Into::into))
                }
                "flip" | "rle" if text.is_empty() => Some(true.into()),
                "flip" | "rle" => switch(text).map(Into::into),
                other => {
                    faults.push(format!("unknown parameter `{other}`"));
                    continue;
                }
            };
            match value {
                None => faults.push(format!("`{name}` cannot be `{text}`; it is {}", accepted(name))),
                Some(value) => {
                    if object.insert(name.to_string(), value).is_some() {
                        faults.push(format!("`{name}` is given twice"));
                    }
                }
            }
        }
        if !faults.is_empty() {
            return Err(Error::bad_request(faults.join("; ")));
        }
        serde_json::from_value(object.into()).map_err(|e| Error::bad_request(e.to_string()))
    }

    /// These options, with the fields that they do not have taken from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            output: self.output.or(other.output),
            mode: self.mode.or(other.mode),
            flip: self.flip.or(other.flip),
            max_side: self.max_side.or(other.max_side),
            score: self.score.or(other.score),
            alpha: self.alpha.or(other.alpha),
            rle: self.rle.or(other.rle),
        }
    }
}

/// What [`switch`] accepts, in words.
pub const SWITCHES: &str = "on or off (also true or false, yes or no, 1 or 0)";

/// Reads a switch as people write it, in any case. `None` if the text is not a switch.
#[must_use]
pub fn switch(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some(true),
        "off" | "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// What a parameter may be, in words.
fn accepted(name: &str) -> &'static str {
    match name {
        "max_side" => "a whole number of pixels",
        "flip" | "rle" => SWITCHES,
        _ => "a number from 0 to 1",
    }
}

/// Checked options.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The kinds of output to make, in the order in which they were asked for. There is at least one, and none is
    /// repeated.
    pub outputs: Vec<OutputKind>,
    pub mode: Mode,
    /// Whether the mirrored photo is parsed as well, for the label map. Default: false.
    pub flip: bool,
    /// The greatest long side of the working size, pixels. Default: the model's own rule.
    pub max_side: Option<u32>,
    /// The least score of a reported person or part, 0–1. Default: the model's thresholds.
    pub score: Option<f32>,
    /// The opacity of the overlay's colours, 0–1. Default: 0.6.
    pub alpha: f32,
    /// Whether the report has COCO RLE masks. Default: false.
    pub rle: bool,
    /// Whether the cut-out is its mask alone: a grey PNG, 255 where people are. Only a door that asks for it sets it.
    pub only_mask: bool,
}

impl Options {
    /// The least `max_side` that is accepted, pixels.
    pub(crate) const MIN_MAX_SIDE: u32 = 32;
    pub(crate) const DEFAULT_ALPHA: f32 = 0.6;

    /// Checks `raw`. If it names no outputs, `default_outputs` are used.
    ///
    /// # Errors
    /// `BadRequest` that names every fault.
    pub fn check(raw: &RawOptions, default_outputs: &[OutputKind]) -> Result<Self> {
        let mut faults = Vec::new();
        let mut outputs = Vec::new();
        match &raw.output {
            None => outputs.extend_from_slice(default_outputs),
            Some(names) => {
                for (count, name) in names.iter().enumerate() {
                    if count == OutputKind::ALL.len() {
                        faults.push(too_many_outputs());
                        break;
                    }
                    match name.parse::<OutputKind>() {
                        Ok(kind) if outputs.contains(&kind) => faults.push(format!("`output` names {name} twice")),
                        Ok(kind) => outputs.push(kind),
                        Err(fault) => faults.push(format!("`output`: {fault}")),
                    }
                }
                if outputs.is_empty() && faults.is_empty() {
                    faults.push("`output` is empty".to_owned());
                }
            }
        }
        faults.extend(two_forms(&outputs).map(|fault| format!("`output`: {fault}")));
        let mode = match raw.mode.as_deref() {
            None | Some("auto") => Mode::Auto,
            Some("tiled") => Mode::Tiled,
            Some(other) => {
                faults.push(format!("`mode` cannot be `{other}`; it is `auto` or `tiled`"));
                Mode::Auto
            }
        };
        if raw.max_side.is_some_and(|side| side < Self::MIN_MAX_SIDE) {
            faults.push(format!("`max_side` must be at least {}", Self::MIN_MAX_SIDE));
        }
        for (name, value) in [("score", raw.score), ("alpha", raw.alpha)] {
            if value.is_some_and(|x| !(0.0..=1.0).contains(&x)) {
                faults.push(format!("`{name}` must lie between 0 and 1"));
            }
        }
        if !faults.is_empty() {
            return Err(Error::bad_request(faults.join("; ")));
        }
        Ok(Self {
            outputs,
            mode,
            flip: raw.flip.unwrap_or(false),
            max_side: raw.max_side,
            score: raw.score,
            alpha: raw.alpha.unwrap_or(Self::DEFAULT_ALPHA),
            rle: raw.rle.unwrap_or(false),
            only_mask: false,
        })
    }

    /// As [`Self::check`], for outputs that are stored.
    ///
    /// # Errors
    /// `BadRequest`, also where `raw` names a kind that is not stored.
    pub fn check_stored(raw: &RawOptions, default_outputs: &[OutputKind]) -> Result<Self> {
        let options = Self::check(raw, default_outputs)?;
        match not_stored(&options.outputs) {
            None => Ok(options),
            Some(fault) => Err(Error::bad_request(format!("`output`: {fault}"))),
        }
    }

    #[must_use]
    pub fn wants(&self, kind: OutputKind) -> bool {
        self.outputs.contains(&kind)
    }

    /// The options as one line for ETags and reports. The same text means the same work.
    #[must_use]
    pub(crate) fn canonical(&self) -> String {
        use std::fmt::Write;
        let names: Vec<_> = self.outputs.iter().map(|k| k.name()).collect();
        let mut text = format!("output={}", names.join(","));
        if self.mode == Mode::Tiled {
            text.push_str("&mode=tiled");
        }
        if self.flip {
            text.push_str("&flip=true");
        }
        if let Some(side) = self.max_side {
            let _ = write!(text, "&max_side={side}");
        }
        if let Some(score) = self.score {
            let _ = write!(text, "&score={score}");
        }
        if self.wants(OutputKind::Overlay) {
            let _ = write!(text, "&alpha={}", self.alpha);
        }
        if self.rle {
            text.push_str("&rle=true");
        }
        if self.only_mask {
            text.push_str("&only_mask=true");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_faults_are_reported_together() {
        let error = RawOptions::from_query("outptu=mask&max_side=x&rle=maybe").unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown parameter `outptu`; `max_side` cannot be `x`; it is a whole number of pixels; `rle` cannot be \
             `maybe`; it is on or off (also true or false, yes or no, 1 or 0)"
        );
        for (text, expected) in [("", true), ("True", true), ("on", true), ("YES", true), ("1", true), ("No", false)] {
            assert_eq!(RawOptions::from_query(&format!("rle={text}")).unwrap().rle, Some(expected), "{text}");
        }
        assert!(RawOptions::from_query("rle=true&rle=true").is_err());
    }

    #[test]
    fn every_name_is_an_option_and_no_other() {
        let all = "output=mask&mode=auto&flip=on&max_side=640&score=0.5&alpha=0.5&rle=on";
        let RawOptions { output, mode, flip, max_side, score, alpha, rle } = RawOptions::from_query(all).unwrap();
        let given = [
            output.is_some(),
            mode.is_some(),
            flip.is_some(),
            max_side.is_some(),
            score.is_some(),
            alpha.is_some(),
            rle.is_some(),
        ];
        assert_eq!(given, [true; RawOptions::NAMES.len()]);
        let names: Vec<_> = form_urlencoded::parse(all.as_bytes()).map(|(name, _)| name).collect();
        assert_eq!(names, RawOptions::NAMES);
    }

    #[test]
    fn checks_every_field() {
        let raw = RawOptions::from_query("output=mask,mask,face&mode=tiles&max_side=1&score=2&alpha=-1").unwrap();
        let error = Options::check(&raw, &[OutputKind::Mask]).unwrap_err().to_string();
        for word in ["twice", "`face`", "`mode`", "`max_side`", "`score`", "`alpha`"] {
            assert!(error.contains(word), "{error}");
        }
        assert!(Options::check(&RawOptions::from_query("output=").unwrap(), &[OutputKind::Mask]).is_err());
    }

    /// Otherwise a body of 20 MB makes gigabytes of complaints.
    #[test]
    fn a_list_ends_where_no_more_outputs_are_left() {
        let many = "x,".repeat(100_000);
        let raw = RawOptions::from_query(&format!("output={many}")).unwrap();
        let error = Options::check(&raw, &[]).unwrap_err().to_string();
        assert!(error.len() < 1500 && error.contains("more than the 8 outputs"), "{error}");
        let list = format!(r#"{{"output":[{}"mask"]}}"#, r#""","#.repeat(100_000));
        let error = serde_json::from_str::<RawOptions>(&list).unwrap_err().to_string();
        assert!(error.starts_with("`output` names more than the 8 outputs that there are at line 1"), "{error}");
        let all = OutputKind::ALL.map(OutputKind::name);
        let raw: RawOptions = serde_json::from_value(serde_json::json!({ "output": all })).unwrap();
        assert_eq!(raw.output.unwrap().iter().collect::<Vec<_>>(), all);
        assert!(
            serde_json::from_str::<RawOptions>(r#"{"output":7}"#).unwrap_err().to_string().contains("a list of names")
        );
    }

    #[test]
    fn of_two_forms_of_a_file_one_may_be_named() {
        let check = |query| Options::check(&RawOptions::from_query(query).unwrap(), &[OutputKind::Mask]);
        assert_eq!(check("output=index,json").unwrap().outputs, [OutputKind::Index, OutputKind::Json]);
        let error = check("output=index,json,mask").unwrap_err().to_string();
        assert_eq!(error, "`output`: index and mask are two forms of one file: name one of them");
    }

    #[test]
    fn answers_are_not_stored() {
        let check = |query| Options::check_stored(&RawOptions::from_query(query).unwrap(), &[OutputKind::Mask]);
        assert_eq!(check("").unwrap().outputs, [OutputKind::Mask]);
        for (query, named) in
            [("output=hf", "hf is"), ("output=mask,coco,json", "coco is"), ("output=coco,hf", "coco, hf is")]
        {
            let error = check(query).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`output`: {named} an answer over HTTP")), "{error}");
        }
    }

    #[test]
    fn json_and_query_mean_the_same() {
        let query = RawOptions::from_query("output=mask,json&rle=true&mode=tiled&flip=on&score=0.25").unwrap();
        let json: RawOptions =
            serde_json::from_str(r#"{"output":["mask","json"],"rle":true,"mode":"tiled","flip":true,"score":0.25}"#)
                .unwrap();
        let check = |raw| Options::check(raw, &[OutputKind::Mask]).unwrap();
        assert_eq!(check(&query), check(&json));
        assert_eq!(check(&query).canonical(), "output=mask,json&mode=tiled&flip=true&score=0.25&rle=true");
        let max_side = |json: &str| serde_json::from_str::<RawOptions>(json).map(|raw| raw.max_side).ok();
        for (json, expected) in [
            (r#"{"max_side": 640}"#, Some(Some(640))),
            (r#"{"max_side": 640.0}"#, Some(Some(640))),
            (r#"{"max_side": null}"#, Some(None)),
            ("{}", Some(None)),
            (r#"{"max_side": 640.5}"#, None),
            (r#"{"max_side": -640.0}"#, None),
            (r#"{"max_side": 4294967296}"#, None),
            (r#"{"max_side": 1e300}"#, None),
            (r#"{"max_side": "640"}"#, None),
        ] {
            assert_eq!(max_side(json), expected, "{json}");
        }
    }
}
