//! The hub of translation: a conversation, an answer and a stream in no dialect's words.
//!
//! Each dialect reads its own JSON into these types and writes them back, so that two dialects
//! need four small pieces and not one per pair. Plain data; no IO, no clock.
//!
//! What the hub does not carry, and what happens to it:
//!
//! * sound and video, also in what the model said before: refused with the place where they stand;
//! * a file by id, or a document by address, towards OpenAI: refused;
//! * the provider's own tools and their results (`server_tool_use`) towards OpenAI: refused;
//! * a plain text file in a chat `file` part: refused, since it belongs into a text part;
//! * several choices: a request for them is refused, and of an answer the first one is read;
//! * `name` of a chat message: left out, Anthropic knows only roles;
//! * `detail` of a chat image: left out, Anthropic looks at all of it;
//! * `metadata` of a chat request but its `user_id`: left out, it is for the gateway's records;
//! * a `user` that is an address or a phone number: left out, Anthropic asks for opaque ids;
//! * thinking without a signature towards Anthropic: left out, the API refuses it;
//! * blank texts towards Anthropic: left out, the API refuses them;
//! * `cache_control` and citations towards OpenAI: left out, the text they mark stays;
//! * past thinking towards OpenAI: left out, only the vendor that signed it can read it;
//! * `is_error` of a tool result towards OpenAI: said in words before the result;
//! * images in a tool result towards OpenAI: moved into a user message behind the results;
//! * a system message in the middle towards Anthropic: said in the user's turn with a note.

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value};

use super::{Fault, Garbled, Translator, Usage};

/// A request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ask {
    /// The conversation in order, system turns included.
    pub turns: Vec<Turn>,
    /// What the model may call.
    pub tools: Vec<Tool>,
    /// Whether it may or must.
    pub choice: Option<Choice>,
    /// Whether it may call several at once.
    pub parallel: Option<bool>,
    /// The form of the answer.
    pub format: Option<Format>,
    /// How much to think beforehand.
    pub thinking: Option<Thinking>,
    /// The longest answer.
    pub max_tokens: Option<u64>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// The end user.
    pub user: Option<String>,
    /// Whether the answer comes as events.
    pub stream: bool,
    /// Fields that mean the same in both dialects, or only in one; kept as they came.
    pub rest: Map<String, Value>,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The model.
    Assistant,
    /// The operator.
    System,
    /// The user, and the tools that report back.
    User,
}

/// What one side says at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// Who.
    pub role: Role,
    /// What.
    pub parts: Vec<Part>,
}

/// A piece of a turn, with the mark for the prompt cache where it has one.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The piece.
    pub kind: Kind,
    /// Anthropic's `cache_control`, as it came.
    pub cache: Option<Value>,
    /// Where it stands in the request, such as `messages[2].content[0]`.
    pub path: String,
}

/// The kinds of pieces.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// The model calls a tool.
    Call(Call),
    /// A file to read.
    Document {
        /// Its bytes or where they are.
        source: Source,
        /// Its name.
        title: Option<String>,
    },
    /// A picture.
    Image(Source),
    /// An Anthropic block without a counterpart, as it came.
    Native(Value),
    /// Thinking that the vendor keeps secret.
    Redacted(String),
    /// What a tool reports.
    Outcome {
        /// The call it answers.
        id: String,
        /// What came out.
        parts: Vec<Part>,
        /// Whether it went wrong.
        failed: bool,
    },
    /// Words.
    Text(String),
    /// Thinking in words, with the vendor's seal.
    Thought {
        /// The words.
        text: String,
        /// The seal, where there is one.
        signature: Option<String>,
    },
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Its name in this conversation.
    pub id: String,
    /// The tool.
    pub name: String,
    /// The arguments.
    pub arguments: Value,
}

/// Where bytes are.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// Here.
    Base64 {
        /// Their media type.
        media: String,
        /// They.
        data: String,
    },
    /// At the provider.
    File(String),
    /// Plain text.
    Text(String),
    /// On the web.
    Url(String),
}

/// What the model may call.
#[derive(Debug, Clone, PartialEq)]
pub enum Tool {
    /// A function of the client's.
    Function {
        /// Its name.
        name: String,
        /// What it is for.
        description: Option<String>,
        /// The schema of its arguments.
        schema: Option<Value>,
        /// Whether arguments must follow the schema.
        strict: Option<bool>,
        /// Anthropic's `cache_control`.
        cache: Option<Value>,
    },
    /// A tool that the provider runs, or knows by type; as it came.
    Hosted(Value),
}

/// Whether tools may or must be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// As the model likes.
    Auto,
    /// This one.
    Named(String),
    /// None.
    None,
    /// At least one.
    Required,
}

/// The form of the answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// Any JSON object.
    Object,
    /// JSON after a schema.
    Schema {
        /// The schema's name.
        name: Option<String>,
        /// The schema.
        schema: Value,
    },
}

/// How much to think beforehand.
#[derive(Debug, Clone, PartialEq)]
pub enum Thinking {
    /// In a word: `none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`.
    Effort(String),
    /// Anthropic's `thinking`, as it came.
    Native(Value),
}

/// Why an answer ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// It is complete.
    End,
    /// The limit of tokens is reached.
    Length,
    /// The model, or a filter, refused.
    Refused,
    /// One of the stop texts came; which one, where the provider says it.
    Sequence(Option<String>),
    /// Tools are to be called.
    Tools,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The provider's name for it.
    pub id: String,
    /// What the model says.
    pub parts: Vec<Kind>,
    /// Why it ends.
    pub stop: Stop,
    /// What it used, where the provider says it.
    pub usage: Option<Usage>,
}

/// A step of a streamed answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Delta {
    /// More of the arguments of the call with this number.
    Arguments(usize, String),
    /// A call begins; calls are numbered from zero.
    Call {
        /// Its number.
        number: usize,
        /// See [`Call::id`].
        id: String,
        /// See [`Call::name`].
        name: String,
    },
    /// The provider gives up in the middle.
    Fault(Fault),
    /// Secret thinking, whole.
    Redacted(String),
    /// The seal of the thinking before.
    Signature(String),
    /// The answer begins; carries its id.
    Start(String),
    /// The answer is complete.
    Stop(Stop),
    /// More words.
    Text(String),
    /// More thinking.
    Thought(String),
    /// What it used.
    Usage(Usage),
}

/// Why a request cannot be said in the other dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unsaid {
    /// A piece of content, by its path, and why.
    Content(String, String),
    /// Parameters without a counterpart.
    Params(Vec<Box<str>>),
}

/// How strict a translation of a request is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Leniency<'a> {
    /// Leave out what has no counterpart.
    pub drop: bool,
    /// Pass these on as they are.
    pub allowed: &'a [Box<str>],
}

/// Collects the parameters that have no counterpart.
#[derive(Debug, Default)]
pub struct Refused(Vec<Box<str>>);

impl Refused {
    /// Adds one.
    pub fn add(&mut self, name: &str) {
        if !self.0.iter().any(|known| &**known == name) {
            self.0.push(name.into());
        }
    }

    /// Whether the request may go on without them.
    pub fn settle(self, leniency: Leniency<'_>) -> Result<(), Unsaid> {
        if leniency.drop || self.0.is_empty() { Ok(()) } else { Err(Unsaid::Params(self.0)) }
    }
}

impl Part {
    /// A part without a cache mark.
    pub fn new(kind: Kind, path: impl Into<String>) -> Self {
        Self { kind, cache: None, path: path.into() }
    }

    /// The error that says it has no words in the other dialect.
    pub fn unsaid(&self, why: &str) -> Unsaid {
        Unsaid::Content(self.path.clone(), why.to_owned())
    }
}

/// Understands a provider's answers.
pub trait Listener: Send + std::fmt::Debug {
    /// A whole answer.
    fn answer(&mut self, body: &[u8]) -> Result<Answer, Garbled>;

    /// One event of a stream.
    fn event(&mut self, event: &[u8]) -> Result<Vec<Delta>, Garbled>;
}

/// Says answers in a client's dialect.
pub trait Speaker: Send + std::fmt::Debug {
    /// A whole answer.
    fn answer(&mut self, answer: Answer) -> Bytes;

    /// One step of a stream; errs where it can no longer be said.
    fn delta(&mut self, delta: Delta, out: &mut BytesMut) -> Result<(), Garbled>;

    /// The end of a stream.
    fn finish(&mut self, out: &mut BytesMut);
}

/// A listener and a speaker make a translator.
#[derive(Debug)]
pub struct Bridge<L, S> {
    listener: L,
    speaker: S,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Broken,
    Open,
    Said,
}

impl<L: Listener, S: Speaker> Bridge<L, S> {
    /// A translator at the start of an answer.
    pub fn new(listener: L, speaker: S) -> Self {
        Self { listener, speaker, end: End::Open }
    }
}

impl<L: Listener, S: Speaker> Translator for Bridge<L, S> {
    fn answer(&mut self, body: &[u8]) -> Result<Bytes, Garbled> {
        Ok(self.speaker.answer(self.listener.answer(body)?))
    }

    fn event(&mut self, event: &[u8], out: &mut BytesMut) -> Result<(), Garbled> {
        if self.end == End::Broken {
            return Ok(());
        }
        for delta in self.listener.event(event)? {
            match &delta {
                Delta::Fault(_) => self.end = End::Broken,
                Delta::Stop(_) => self.end = End::Said,
                _ => {}
            }
            self.speaker.delta(delta, out)?;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut BytesMut) -> Result<(), Garbled> {
        match self.end {
            End::Broken => Ok(()),
            End::Open => Err(Garbled("the stream ended without a stop reason".to_owned())),
            End::Said => {
                self.speaker.finish(out);
                Ok(())
            }
        }
    }
}
