//! A command written as one text, split into arguments by the rules of the library that Compose uses.
//!
//! Quotes group, a backslash takes the next character (`\n` and `\t` are a line feed and a tab), and no shell looks at the
//! result. Where that library silently drops the rest of the line, at an unquoted `;` or `|`, this one refuses.

use alloc::string::String;
use alloc::vec::Vec;

/// Why a text cannot be split.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WordsError {
    /// A quote is never closed.
    Unclosed(char),
    /// Ends in a lone backslash.
    LoneBackslash,
    /// Something that only a shell understands.
    Shell(char),
}

/// Splits a text into arguments.
pub(crate) fn split(text: &str) -> Result<Vec<String>, WordsError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut escaped = false;
    for c in text.chars() {
        if escaped {
            escaped = false;
            let taken = match c {
                'n' => '\n',
                't' => '\t',
                other => other,
            };
            word.get_or_insert_default().push(taken);
            continue;
        }
        match (c, quote) {
            ('\\', None | Some('"')) => escaped = true,
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (' ' | '\t' | '\r' | '\n', None) => words.extend(word.take()),
            (';' | '&' | '|' | '<' | '>' | '(' | ')' | '`', None) => return Err(WordsError::Shell(c)),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(open) = quote {
        return Err(WordsError::Unclosed(open));
    }
    if escaped {
        return Err(WordsError::LoneBackslash);
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_as_compose_does() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            ("  a  b\tc\n", &["a", "b", "c"]),
            (r#"sh -c "echo 'x y' && z""#, &["sh", "-c", "echo 'x y' && z"]),
            (r"a\ b c", &["a b", "c"]),
            (r#"'a\b' "a\"b" "#, &[r"a\b", "a\"b"]),
            (r#""" x ''"#, &["", "x", ""]),
            (r"a\nb", &["a\nb"]),
            (r#"--x="1 2"3"#, &["--x=1 23"]),
            ("a$b #c", &["a$b", "#c"]),
        ];
        for (text, expect) in cases {
            assert_eq!(
                split(text).as_deref(),
                Ok(expect.iter().map(|&w| String::from(w)).collect::<Vec<_>>().as_slice())
            );
        }
    }

    #[test]
    fn refuses_what_would_be_lost() {
        assert_eq!(split("a && b"), Err(WordsError::Shell('&')));
        assert_eq!(split("a > b"), Err(WordsError::Shell('>')));
        assert_eq!(split("echo `date`"), Err(WordsError::Shell('`')));
        assert_eq!(split("echo $(date)"), Err(WordsError::Shell('(')));
        assert_eq!(split("echo 'x"), Err(WordsError::Unclosed('\'')));
        assert_eq!(split("echo x\\"), Err(WordsError::LoneBackslash));
    }
}
