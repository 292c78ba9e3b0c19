//! The first words of a model that writes on behind a text.

/// Between what was sent and what is new.
#[derive(Debug)]
pub(super) struct Joint {
    /// What the model was given. Some say it again before they write on.
    given: String,
    /// How much of what came may be that.
    echo: String,
    /// The spaces at the end of what was sent, which the model was not given.
    spaces: String,
    is_decided: bool,
}

impl Joint {
    pub(super) fn behind(sent: &str) -> Self {
        let given = sent.trim_end();
        let spaces = sent.get(given.len()..).unwrap_or_default().to_owned();
        Self { given: given.to_owned(), echo: String::new(), spaces, is_decided: false }
    }

    /// Where it stood in a prompt, which nobody says again.
    pub(super) fn in_prompt(sent: &str) -> Self {
        Self { is_decided: true, ..Self::behind(sent) }
    }

    /// Adds a piece of what came; returns what of it is new.
    pub(super) fn add(&mut self, text: &str) -> String {
        if self.is_decided {
            return self.without_spaces(text).to_owned();
        }
        self.echo.push_str(text);
        if self.given.starts_with(&*self.echo) && self.echo.len() < self.given.len() {
            return String::new();
        }
        self.is_decided = true;
        let came = std::mem::take(&mut self.echo);
        let new = came.strip_prefix(&*self.given).unwrap_or(&came);
        self.without_spaces(new).to_owned()
    }

    /// What was kept and is new after all, since nothing more comes.
    pub(super) fn end(&mut self) -> String {
        self.is_decided = true;
        let kept = std::mem::take(&mut self.echo);
        self.without_spaces(&kept).to_owned()
    }

    /// Whether all that comes is new from now on.
    pub(super) fn is_over(&self) -> bool {
        self.is_decided && self.spaces.is_empty()
    }

    /// Leaves out the spaces that the client has already.
    fn without_spaces<'t>(&mut self, text: &'t str) -> &'t str {
        let mut left = text;
        while let (Some(space), Some(first)) = (self.spaces.chars().next(), left.chars().next()) {
            if space != first {
                self.spaces.clear();
                break;
            }
            self.spaces.drain(..space.len_utf8());
            left = left.get(first.len_utf8()..).unwrap_or_default();
        }
        left
    }
}
