//! Names with wildcards, as shells match file names.
//!
//! `*` stands for any characters, `?` for one, `[ab-d]` for one of those, `[^ab]` for one of all others, and `\` takes the
//! special meaning from the next character. Users of the peer know these rules; names hold no `/`, which is special to it.

/// Whether a name is a pattern: it has `*`, `?`, or both brackets. Names of pools have none of them.
pub fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?']) || (name.contains('[') && name.contains(']'))
}

/// A pattern that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a name and not a pattern of names: {problem}")]
pub struct BadPattern {
    /// The pattern.
    pub text: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// A pattern of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Token>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// Any characters.
    Many,
    One(Class),
}

/// Which characters a token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Class {
    Any,
    Only(char),
    Within { ranges: Vec<(char, char)>, negated: bool },
}

impl Class {
    fn has(&self, c: char) -> bool {
        match self {
            Self::Any => true,
            Self::Only(only) => *only == c,
            Self::Within { ranges, negated } => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&c)) != *negated
            }
        }
    }
}

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let bad = |problem| BadPattern {
            text: text.to_owned(),
            problem,
        };
        let mut rest = text.chars().peekable();
        let mut tokens = Vec::new();
        while let Some(c) = rest.next() {
            tokens.push(match c {
                '*' => Token::Many,
                '?' => Token::One(Class::Any),
                '[' => Token::One(class(&mut rest).map_err(bad)?),
                '\\' => Token::One(Class::Only(rest.next().ok_or_else(|| bad(BACKSLASH))?)),
                c => Token::One(Class::Only(c)),
            });
        }
        Ok(Self(tokens))
    }

    /// Whether a name matches as a whole. The work is bounded by the product of both lengths.
    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut token, mut at) = (0, 0);
        // Where to go on if what follows the last `*` does not match: it stands for one character more then. An earlier
        // `*` need not be tried again, since the later one can stand for whatever the earlier one would give up.
        let mut resume: Option<(usize, usize)> = None;
        loop {
            match (self.0.get(token), name.get(at)) {
                (None, None) => return true,
                (Some(Token::Many), _) => {
                    resume = Some((token + 1, at));
                    token += 1;
                }
                (Some(Token::One(class)), Some(c)) if class.has(*c) => (token, at) = (token + 1, at + 1),
                _ => match resume {
                    Some((next, from)) if from < name.len() => {
                        resume = Some((next, from + 1));
                        (token, at) = (next, from + 1);
                    }
                    _ => return false,
                },
            }
        }
    }
}

const BACKSLASH: &str = "nothing follows the last backslash";
const BRACKET: &str = "a bracket is not closed";
const MEMBER: &str = "a bracket holds no characters, or a `-` without both ends";

type Rest<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// What stands after an opening bracket, up to the closing one.
fn class(rest: &mut Rest<'_>) -> Result<Class, &'static str> {
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    while ranges.is_empty() || rest.next_if_eq(&']').is_none() {
        let first = member(rest)?;
        let last = match rest.next_if_eq(&'-') {
            Some(_) => member(rest)?,
            None => first,
        };
        ranges.push((first, last));
    }
    Ok(Class::Within { ranges, negated })
}

fn member(rest: &mut Rest<'_>) -> Result<char, &'static str> {
    match rest.next() {
        None => Err(BRACKET),
        Some('-' | ']') => Err(MEMBER),
        Some('\\') => rest.next().ok_or(BACKSLASH),
        Some(c) => Ok(c),
    }
}
