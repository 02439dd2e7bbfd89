//! A middleware for actix-web that does little more than keep a session in a cookie of sealed-session's size: the same name,
//! as many attributes, the same headers, a header of the same length, the same cipher, encoding and libraries, each used as
//! sealed-session uses it. It has one key, no epochs and one limit of time, and that is all: it checks neither where a request
//! comes from nor what a key or a padding should be, compares nothing to find what has changed, wipes nothing, tells nobody,
//! merges no headers, cannot renew, and knows no store. What it costs is about what the cookie alone costs.

use std::cell::RefCell;
use std::future::{Future, Ready, ready};
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::http::header::{CACHE_CONTROL, COOKIE, HeaderValue, SET_COOKIE, VARY};
use actix_web::{Error, HttpMessage as _, HttpRequest};
use aes_gcm::aead::consts::U12;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut as _, KeyInit as _};
use aes_gcm::{AesGcm, Nonce, Tag};
use base64::Engine as _;
use base64::engine::general_purpose::NO_PAD;
use base64::engine::simd::Simd;
use pin_project_lite::pin_project;
use rand::Rng as _;
use rand::TryRng as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

const NAME: &str = "__Host-Http-session=";
const ATTRIBUTES: &str = "; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=2592000";
/// Suite, key id and nonce.
const HEAD_LEN: usize = 29;
const TAG_LEN: usize = 16;
/// Suite and key id.
const AAD_LEN: usize = 5;
const NONCE: std::ops::Range<usize> = 17..29;
/// Id and times.
const HEADER_LEN: usize = 66;
const ID_LEN: usize = 16;
const LIFETIME: u64 = 86_400_000;

static BASE64: LazyLock<Simd> = LazyLock::new(|| Simd::url_safe(NO_PAD));

type Cipher = AesGcm<aes::Aes256Enc, U12>;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Where a name and a value are in the message, or a value that was put.
struct Entry {
    name: Range<usize>,
    value: Result<Range<usize>, Vec<u8>>,
}

/// A message that was opened in place: names and values with their lengths in front of them.
struct Data {
    header: [u8; HEADER_LEN],
    message: Vec<u8>,
    entries: Vec<Entry>,
    changed: bool,
}

impl Data {
    fn empty() -> Self {
        Self { header: [0; HEADER_LEN], message: Vec::new(), entries: Vec::new(), changed: false }
    }

    fn name(&self, entry: &Entry) -> &[u8] {
        &self.message[entry.name.clone()]
    }

    fn value<'d>(&'d self, entry: &'d Entry) -> &'d [u8] {
        match &entry.value {
            Ok(place) => &self.message[place.clone()],
            Err(put) => put,
        }
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|entry| self.name(entry) == name.as_bytes())
    }

    fn expires(&self) -> u64 {
        u64::from_be_bytes(self.header[ID_LEN..ID_LEN + 8].try_into().unwrap())
    }

    fn opened(cipher: &Cipher, request: &HttpRequest) -> Option<Self> {
        let cookies = request.headers().get_all(COOKIE);
        let value = cookies.map(HeaderValue::as_bytes).find_map(|line| {
            let ends = memchr::memchr_iter(b';', line).chain([line.len()]);
            let starts = std::iter::once(0).chain(memchr::memchr_iter(b';', line).map(|at| at + 1));
            let mut pairs = starts.zip(ends).map(|(start, end)| line[start..end].trim_ascii_start());
            pairs.find_map(|pair| pair.strip_prefix(NAME.as_bytes()))
        })?;
        let mut message = vec![0; value.len() * 3 / 4];
        let len = BASE64.decode_slice(value, &mut message).ok()?;
        message.truncate(len);
        let end = message.len().checked_sub(TAG_LEN)?;
        let (head, rest) = message.split_at_mut_checked(HEAD_LEN)?;
        let (body, tag) = rest.split_at_mut_checked(end - HEAD_LEN)?;
        let (nonce, tag) = (Nonce::<U12>::try_from(&head[NONCE]).ok()?, Tag::try_from(&*tag).ok()?);
        cipher.decrypt_inout_detached(&nonce, &head[..AAD_LEN], InOutBuf::from(&mut *body), &tag).ok()?;
        let header = *body.first_chunk()?;
        message.truncate(end);
        let mut data = Self { header, message, ..Self::empty() };
        if now() >= data.expires() {
            return None;
        }
        let mut at = HEAD_LEN + HEADER_LEN;
        while let Some(&len) = data.message.get(at).filter(|len| **len > 0) {
            let name = at + 1..at + 1 + usize::from(len);
            let lens = data.message.get(name.end..name.end + 2)?.try_into().unwrap();
            at = name.end + 2 + usize::from(u16::from_be_bytes(lens));
            let value = name.end + 2..at;
            data.message.get(value.clone())?;
            data.entries.push(Entry { name, value: Ok(value) });
        }
        Some(data)
    }

    fn sealed(&mut self, cipher: &Cipher) -> HeaderValue {
        if self.expires() == 0 {
            rand::rngs::SysRng.try_fill_bytes(&mut self.header[..ID_LEN]).unwrap();
        }
        self.header[ID_LEN..ID_LEN + 8].copy_from_slice(&(now() + LIFETIME).to_be_bytes());
        let entries = self.entries.iter().map(|entry| 3 + entry.name.len() + self.value(entry).len());
        let entries: usize = entries.sum();
        let body = (HEADER_LEN + entries).next_multiple_of(32);
        let mut message = Vec::with_capacity(HEAD_LEN + body + TAG_LEN);
        message.resize(HEAD_LEN, 7);
        rand::rng().fill_bytes(&mut message[NONCE]);
        message.extend_from_slice(&self.header);
        for entry in &self.entries {
            let (name, value) = (self.name(entry), self.value(entry));
            message.push(name.len() as u8);
            message.extend_from_slice(name);
            message.extend_from_slice(&(value.len() as u16).to_be_bytes());
            message.extend_from_slice(value);
        }
        message.resize(HEAD_LEN + body, 0);
        let (head, body) = message.split_at_mut(HEAD_LEN);
        let nonce = Nonce::<U12>::try_from(&head[NONCE]).unwrap();
        let tag = cipher.encrypt_inout_detached(&nonce, &head[..AAD_LEN], InOutBuf::from(body)).unwrap();
        message.extend_from_slice(&tag);
        let value = (message.len() * 4).div_ceil(3);
        let mut line = Vec::with_capacity(NAME.len() + value + ATTRIBUTES.len());
        line.extend_from_slice(NAME.as_bytes());
        line.resize(NAME.len() + value, 0);
        BASE64.encode_slice(&message, &mut line[NAME.len()..]).unwrap();
        line.extend_from_slice(ATTRIBUTES.as_bytes());
        HeaderValue::try_from(line).unwrap()
    }
}

struct Slot {
    cipher: Rc<Cipher>,
    data: RefCell<Option<Data>>,
}

/// The session of a request.
pub(crate) struct Session(Rc<Slot>);

impl Session {
    pub(crate) async fn of(request: &HttpRequest) -> Self {
        let slot = Rc::clone(request.extensions().get::<Rc<Slot>>().unwrap());
        let data = Data::opened(&slot.cipher, request).unwrap_or_else(Data::empty);
        slot.data.replace(Some(data));
        Self(slot)
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, rmp_serde::decode::Error> {
        let data = self.0.data.borrow();
        let data = data.as_ref().unwrap();
        data.find(name).map(|at| rmp_serde::from_slice(data.value(&data.entries[at]))).transpose()
    }

    pub(crate) fn insert(&self, name: &str, value: impl Serialize) -> Result<(), rmp_serde::encode::Error> {
        let value = rmp_serde::to_vec_named(&value)?;
        let mut data = self.0.data.borrow_mut();
        let data = data.as_mut().unwrap();
        data.changed = true;
        let at = data.find(name).unwrap_or_else(|| {
            let start = data.message.len();
            data.message.extend_from_slice(name.as_bytes());
            let name = start..data.message.len();
            data.entries.push(Entry { name, value: Ok(0..0) });
            data.entries.len() - 1
        });
        data.entries[at].value = Err(value);
        Ok(())
    }
}

pub(crate) struct Middleware(Rc<Cipher>);

impl Middleware {
    pub(crate) fn new() -> Self {
        Self(Rc::new(Cipher::new(&[7; 32].into())))
    }
}

impl<S, B> Transform<S, ServiceRequest> for Middleware
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type InitError = ();
    type Transform = Wrapped<S>;
    type Future = Ready<Result<Wrapped<S>, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(Wrapped { service, cipher: Rc::clone(&self.0) }))
    }
}

pub(crate) struct Wrapped<S> {
    service: S,
    cipher: Rc<Cipher>,
}

impl<S, B> Service<ServiceRequest> for Wrapped<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Future = Committing<S::Future>;

    actix_web::dev::forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let slot = Rc::new(Slot { cipher: Rc::clone(&self.cipher), data: RefCell::new(None) });
        request.extensions_mut().insert(Rc::clone(&slot));
        Committing { inner: self.service.call(request), slot }
    }
}

pin_project! {
    pub(crate) struct Committing<F> {
        #[pin]
        inner: F,
        slot: Rc<Slot>,
    }
}

impl<F, B> Future for Committing<F>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Poll::Ready(mut outcome) = this.inner.poll(context) else { return Poll::Pending };
        if let (Ok(response), Some(data)) = (&mut outcome, this.slot.data.borrow_mut().as_mut()) {
            let headers = response.headers_mut();
            headers.append(VARY, HeaderValue::from_static("Cookie"));
            if data.changed {
                headers.append(SET_COOKIE, data.sealed(&this.slot.cipher));
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            }
        }
        Poll::Ready(outcome)
    }
}
