//! Rust text as the checks see it: each line split into code and comment, with the insides of strings blanked.

/// One line of a file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// The code, comments gone and strings emptied: `let s = "";`.
    pub(crate) code: String,
    /// The comment, with its slashes.
    pub(crate) comment: String,
}

/// What a character belongs to.
#[derive(Clone, Copy)]
enum State {
    Code,
    LineComment,
    /// Block comments nest.
    BlockComment(usize),
    /// A string in which a backslash escapes.
    Text,
    /// A raw string, with its number of hashes.
    Raw(usize),
}

/// Splits `text` into lines.
pub(crate) fn lines(text: &str) -> Vec<Line> {
    let chars: Vec<char> = text.chars().collect();
    let mut scanner = Scanner { chars: &chars, at: 0, state: State::Code, lines: vec![Line::default()] };
    while scanner.at < chars.len() {
        scanner.step();
    }
    scanner.lines
}

struct Scanner<'a> {
    chars: &'a [char],
    at: usize,
    state: State,
    lines: Vec<Line>,
}

impl Scanner<'_> {
    fn step(&mut self) {
        let c = self.chars[self.at];
        if c == '\n' {
            if let State::LineComment = self.state {
                self.state = State::Code;
            }
            self.lines.push(Line::default());
            self.at += 1;
            return;
        }
        match self.state {
            State::Code => self.code(c),
            State::LineComment => self.comment(1),
            State::BlockComment(depth) => self.block_comment(depth),
            State::Text if c == '\\' => self.at += if self.peek(1) == Some('\n') { 1 } else { 2 },
            State::Text => self.end_of_string(c, 0),
            State::Raw(hashes) => self.end_of_string(c, hashes),
        }
    }

    fn code(&mut self, c: char) {
        match c {
            '/' if self.peek(1) == Some('/') => self.state = State::LineComment,
            '/' if self.peek(1) == Some('*') => {
                self.comment(2);
                self.state = State::BlockComment(1);
            }
            '"' => {
                self.take_code(1);
                self.state = self.string_kind();
            }
            '\'' => self.take_code(self.quote_length()),
            _ => self.take_code(1),
        }
    }

    /// After an opening quote: raw when `r`, `br` or `cr` and hashes stand before it.
    fn string_kind(&self) -> State {
        let code = &self.lines[self.lines.len() - 1].code;
        let before = &code[..code.len() - 1];
        let prefix = before.trim_end_matches('#');
        let word = prefix.rsplit(|c: char| !is_word(c)).next().unwrap_or("");
        if matches!(word, "r" | "br" | "cr") { State::Raw(before.len() - prefix.len()) } else { State::Text }
    }

    fn end_of_string(&mut self, c: char, hashes: usize) {
        let closes = c == '"' && (1..=hashes).all(|n| self.peek(n) == Some('#'));
        if closes {
            self.take_code(1 + hashes);
            self.state = State::Code;
        } else {
            self.at += 1;
        }
    }

    fn block_comment(&mut self, depth: usize) {
        match (self.chars[self.at], self.peek(1)) {
            ('*', Some('/')) => {
                self.comment(2);
                self.state = if depth == 1 { State::Code } else { State::BlockComment(depth - 1) };
            }
            ('/', Some('*')) => {
                self.comment(2);
                self.state = State::BlockComment(depth + 1);
            }
            _ => self.comment(1),
        }
    }

    /// The length of a character literal at this quote, or 1 for a lifetime.
    fn quote_length(&self) -> usize {
        match (self.peek(1), self.peek(2)) {
            (Some('\\'), _) => {
                // The character after the backslash may be a quote itself.
                let rest = self.chars.iter().skip(self.at + 3);
                4 + rest.take_while(|&&c| c != '\'' && c != '\n').count()
            }
            (Some(_), Some('\'')) => 3,
            _ => 1,
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    /// Takes `count` characters as code; of a character literal only the quotes, or it would count as a bracket.
    fn take_code(&mut self, count: usize) {
        let end = (self.at + count).min(self.chars.len());
        let taken: String = self.chars[self.at..end].iter().collect();
        let is_literal = count > 1 && taken.starts_with('\'');
        self.line().code.push_str(if is_literal { "''" } else { &taken });
        self.at = end;
    }

    fn comment(&mut self, count: usize) {
        let end = (self.at + count).min(self.chars.len());
        let taken: String = self.chars[self.at..end].iter().collect();
        self.line().comment.push_str(&taken);
        self.at = end;
    }

    fn line(&mut self) -> &mut Line {
        let last = self.lines.len() - 1;
        &mut self.lines[last]
    }
}

/// Whether `c` may stand in an identifier.
pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `code` holds `what` with no letter, digit or underscore on its left, nor on its right when `what` ends in one.
pub(crate) fn has(code: &str, what: &str) -> bool {
    let open_end = !what.ends_with(is_word);
    let open_start = !what.starts_with(is_word);
    code.match_indices(what).any(|(at, _)| {
        (open_start || !code[..at].ends_with(is_word))
            && (open_end || !code[at + what.len()..].starts_with(is_word))
    })
}

#[cfg(test)]
mod tests {
    use super::{Line, has, lines};

    #[test]
    fn comments_and_strings_are_told_from_code() {
        let cases = [
            ("a // b", "a ", "// b"),
            ("a /* b /* c */ d */ e", "a  e", "/* b /* c */ d */"),
            (r#"f("unsafe // no", x)"#, r#"f("", x)"#, ""),
            (r#"f("a\"b", c)"#, r#"f("", c)"#, ""),
            (r###"f(r#"a " b"#, c)"###, r###"f(r#""#, c)"###, ""),
            (r#"f(b"x", c"y")"#, r#"f(b"", c"")"#, ""),
            ("f('\"', '{', '\\'', '\\u{7d}')", "f('', '', '', '')", ""),
            ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)", ""),
            ("xr\"a\"", "xr\"\"", ""),
        ];
        for (text, code, comment) in cases {
            let expected = Line { code: code.to_owned(), comment: comment.to_owned() };
            assert_eq!(lines(text), [expected], "{text}");
        }
    }

    #[test]
    fn strings_and_comments_go_over_lines() {
        let codes = |text| lines(text).into_iter().map(|line| line.code).collect::<Vec<_>>();
        assert_eq!(codes("a(\"x\ny\\\nz\", b)\nc"), ["a(\"", "", "\", b)", "c"]);
        assert_eq!(codes("a /* x\ny */ b"), ["a ", " b"]);
        assert_eq!(codes("r#\"x\n\" y\n\"# z"), ["r#\"", "", "\"# z"]);
    }

    #[test]
    fn words_have_borders() {
        let cases = [
            ("use tokio::x", "tokio", true),
            ("use my_tokio::x", "tokio", false),
            ("use tokio_x", "tokio", false),
            ("procession_ipc::x", "procession::", false),
            ("::procession::x", "procession::", true),
            ("a.builder(b)", ".builder(", true),
            ("refork(x)", "fork(", false),
        ];
        for (code, what, expected) in cases {
            assert_eq!(has(code, what), expected, "{what} in {code}");
        }
    }
}
