//! Models of devices, and what each can do (specs/wattwatchers.md 3.5).

use meterd_http::Reply;
use serde::{Deserialize, Serialize};

/// What a model can do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) code: &'static str,
    pub(crate) channels: u8,
    pub(crate) switches: u8,
    pub(crate) communications: &'static str,
}

/// Channels of the largest.
pub(crate) const CHANNELS_MAX: usize = 6;

const CELLULAR: &str = "cellular";
const WIFI: &str = "wifi";
const BOTH: &str = "cellular+wifi";

const fn facts(
    code: &'static str,
    channels: u8,
    switches: u8,
    communications: &'static str,
) -> Facts {
    Facts {
        code,
        channels,
        switches,
        communications,
    }
}

static MODELS: [Facts; 11] = [
    facts("3M", 3, 0, CELLULAR),
    facts("3RM", 3, 0, CELLULAR),
    facts("3RM+3SW", 3, 3, CELLULAR),
    facts("6M", 6, 0, CELLULAR),
    facts("6M+3SW", 6, 3, CELLULAR),
    facts("6M+One", 6, 0, CELLULAR),
    facts("6M4+3SW", 6, 3, CELLULAR),
    facts("6MW", 6, 0, BOTH),
    facts("6MW-CER", 6, 1, BOTH),
    facts("6W", 6, 0, WIFI),
    facts("6W+3SW", 6, 3, WIFI),
];

/// One of the models there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Model(&'static Facts);

impl Model {
    pub fn named(code: &str) -> Option<Self> {
        MODELS.iter().find(|model| model.code == code).map(Self)
    }

    pub(crate) fn codes() -> impl Iterator<Item = &'static str> {
        MODELS.iter().map(|model| model.code)
    }

    pub(crate) fn facts(self) -> &'static Facts {
        self.0
    }

    pub(crate) fn has_modbus(self) -> bool {
        self.0.code == "6M+One"
    }

    pub(crate) fn takes_wifi_credentials(self) -> bool {
        self.0.communications == BOTH
    }

    /// What it uses when it has not said.
    pub(crate) fn transport(self) -> &'static str {
        if self.0.communications == WIFI {
            WIFI
        } else {
            CELLULAR
        }
    }

    /// Amperes of the current transformers it comes with; those of Rogowski coils cannot be set.
    pub(crate) fn rating_amperes(self) -> u32 {
        if self.0.code.starts_with("3RM") {
            3000
        } else {
            60
        }
    }
}

impl TryFrom<String> for Model {
    type Error = &'static str;

    fn try_from(code: String) -> Result<Self, Self::Error> {
        Self::named(&code).ok_or("is no model")
    }
}

impl From<Model> for String {
    fn from(model: Model) -> Self {
        model.0.code.to_owned()
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ModelView {
    code: &'static str,
    display_name: String,
    channels_count: u8,
    switches_count: u8,
    communications: &'static str,
}

/// `GET /devices/models`
pub(crate) async fn list_models() -> Reply<Vec<ModelView>> {
    let views = MODELS.iter().map(|model| ModelView {
        code: model.code,
        display_name: format!("Auditor {}", model.code),
        channels_count: model.channels,
        switches_count: model.switches,
        communications: model.communications,
    });
    Reply::ok(views.collect())
}
