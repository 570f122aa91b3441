//! The secret that opens the rest of the admin listener: made anew at each start, kept where the commands find it.

use std::fmt;
use std::fs::{File, OpenOptions, Permissions};
use std::hint::black_box;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use ring::rand::{self, SystemRandom};

use super::Error;

/// Its file's name in the cache directory.
pub(crate) const FILE: &str = "admin.token";

/// The same before it is whole.
const UNFINISHED: &str = "admin.token.new";

const OWNER_ONLY: u32 = 0o600;

/// A token. It can be compared and written to its file, and is shown nowhere.
#[derive(Clone)]
pub(crate) struct Token(String);

impl Token {
    /// 32 random bytes, in hexadecimal.
    fn random() -> Result<Self, Error> {
        let source = SystemRandom::new();
        let half = || rand::generate::<[u8; 16]>(&source).map(|bytes| u128::from_be_bytes(bytes.expose()));
        let (first, second) = half().and_then(|first| Ok((first, half()?))).map_err(|_| Error::Random)?;
        Ok(Self(format!("{first:032x}{second:032x}")))
    }

    /// Whether `presented` is this token, in a time that says nothing about where they differ.
    pub(super) fn is(&self, presented: &str) -> bool {
        let differences =
            self.0.bytes().zip(presented.bytes()).fold(0, |all, (a, b)| black_box(all | (a ^ b)));
        // The length is public.
        self.0.len() == presented.len() && differences == 0
    }

    #[cfg(test)]
    pub(super) fn fixed(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Makes a token and puts it into `dir`, readable by the owner alone. Readers find the old one or the new one, whole.
pub(crate) fn make_token(dir: &Path) -> Result<Token, Error> {
    let token = Token::random()?;
    let path = dir.join(FILE);
    write(&dir.join(UNFINISHED), &path, &token.0).map_err(|source| Error::Token { path, source })?;
    Ok(token)
}

/// One process owns the directory, so a file left unfinished belongs to a process that is gone.
fn write(unfinished: &Path, path: &Path, token: &str) -> io::Result<()> {
    match std::fs::remove_file(unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = create(unfinished)?;
    file.write_all(token.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(unfinished, path)
}

/// Never follows a link and never takes over what somebody else opened before.
fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(path)?;
    // The mode above passes through the umask, which may take the owner's own bits.
    file.set_permissions(Permissions::from_mode(OWNER_ONLY))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lies_in_its_file_for_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(UNFINISHED), "left behind").unwrap();
        std::os::unix::fs::symlink("/nonexistent/elsewhere", dir.path().join(FILE)).unwrap();
        let first = make_token(dir.path()).unwrap();
        let second = make_token(dir.path()).unwrap();
        let path = dir.path().join(FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        assert!(metadata.is_file());
        assert_eq!(metadata.permissions().mode() & 0o7777, OWNER_ONLY);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(second.is(text.trim_end()) && !first.is(text.trim_end()));
        assert_eq!(text.trim_end().len(), 64);
    }

    #[test]
    fn what_a_link_leads_to_stays_as_it_is() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let target = elsewhere.path().join("target");
        for name in [FILE, UNFINISHED] {
            std::fs::write(&target, "somebody's").unwrap();
            std::os::unix::fs::symlink(&target, dir.path().join(name)).unwrap();
            make_token(dir.path()).unwrap();
            std::fs::remove_file(dir.path().join(FILE)).unwrap();
            std::fs::hard_link(&target, dir.path().join(name)).unwrap();
            make_token(dir.path()).unwrap();
            assert_eq!(std::fs::read(&target).unwrap(), b"somebody's", "{name}");
            std::fs::remove_file(dir.path().join(FILE)).unwrap();
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_the_whole_token_is_the_token() {
        let token = Token::fixed("0123456789abcdef");
        assert!(token.is("0123456789abcdef"));
        for other in
            ["", "0", "0123456789abcdee", "1123456789abcdef", "0123456789abcdef0", "0123456789ABCDEF"]
        {
            assert!(!token.is(other), "{other}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        assert_eq!(format!("{:?}", Token::fixed("0123")), "Token(..)");
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let error = make_token(Path::new("/nonexistent")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/admin.token"), "{error}");
    }
}
