//! What DNS has answered before, for when it does not.

use std::collections::HashMap;

use tokio::task::JoinSet;

use super::resolver::{Answer, Question, Resolver, Trouble};

/// Questions of one name that are under way at once, each with a socket of its own. The library refuses more than 32 to one
/// server; SRV records may name hundreds of hosts.
const AT_ONCE: usize = 16;

/// The last good answers. That DNS fails is no reason to forget backends that work.
#[derive(Default)]
pub(super) struct Memory {
    /// Those of the look-up under way.
    now: HashMap<Question, Known>,
    /// Those of the one before. What is not asked again is forgotten.
    before: HashMap<Question, Known>,
}

#[derive(Clone)]
struct Known {
    answer: Answer,
    /// DNS has said since that there is nothing. Once may be the mistake of a server that starts, or is busy.
    doubted: bool,
}

/// What holds now, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) answer: Option<Answer>,
    pub(super) trouble: Option<Trouble>,
}

impl Memory {
    /// A look-up begins.
    pub(super) fn begin(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    /// Asks them side by side; none may be there twice. A panic is a bug that costs the answer to its question.
    pub(super) async fn ask(&mut self, resolver: &Resolver, questions: Vec<Question>) -> Vec<Reply> {
        let mut asked = JoinSet::new();
        let mut waiting = questions.iter().cloned().enumerate();
        let panicked = Err(Trouble::Failed("the look-up panicked".to_owned()));
        let mut answers = vec![panicked; questions.len()];
        loop {
            for (at, question) in waiting.by_ref().take(AT_ONCE - asked.len()) {
                let resolver = resolver.clone();
                asked.spawn(async move { (at, resolver.ask(&question).await) });
            }
            let Some(answer) = asked.join_next().await else { break };
            match answer {
                Ok((at, answer)) => answers[at] = answer,
                Err(error) => tracing::error!(%error, "a DNS look-up panicked"),
            }
        }
        questions.into_iter().zip(answers).map(|(question, answer)| self.learn(question, answer)).collect()
    }

    /// A good answer stays until there is another, or until DNS has said twice in a row that there is nothing.
    fn learn(&mut self, question: Question, answer: Result<Answer, Trouble>) -> Reply {
        let (known, trouble) = match (answer, self.before.remove(&question)) {
            (Ok(answer), _) => (Known { answer, doubted: false }, None),
            (Err(trouble), None) => return Reply { answer: None, trouble: Some(trouble) },
            (Err(trouble @ Trouble::Failed(_)), Some(known)) => (known, Some(trouble)),
            (Err(trouble), Some(known)) if known.doubted => return Reply { answer: None, trouble: Some(trouble) },
            (Err(trouble), Some(known)) => (Known { doubted: true, ..known }, Some(trouble)),
        };
        let answer = Some(known.answer.clone());
        self.now.insert(question, known);
        Reply { answer, trouble }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::dns::resolver::{Kind, Record};

    fn question() -> Question {
        Question { name: "a.test.".to_owned(), kind: Kind::V4 }
    }

    fn answer() -> Answer {
        Answer { records: vec![Record::Address("127.0.0.1".parse().expect("an address"))], ttl: None }
    }

    /// Whether the answer holds after each of these look-ups.
    fn holds(answers: impl IntoIterator<Item = Result<Answer, Trouble>>) -> Vec<bool> {
        let mut memory = Memory::default();
        let mut holds = |answer| {
            memory.begin();
            memory.learn(question(), answer).answer.is_some()
        };
        answers.into_iter().map(&mut holds).collect()
    }

    #[test]
    fn an_answer_outlives_any_number_of_failures() {
        let failed = || Err(Trouble::Failed("SERVFAIL".to_owned()));
        assert_eq!(holds([failed(), Ok(answer()), failed(), failed(), failed()]), [false, true, true, true, true]);
    }

    #[test]
    fn an_answer_goes_when_dns_says_twice_that_there_is_nothing() {
        let none = || Err(Trouble::NoName);
        let other = || Err(Trouble::NoRecords(String::new()));
        let failed = || Err(Trouble::Failed("SERVFAIL".to_owned()));
        assert_eq!(holds([Ok(answer()), none(), none(), none()]), [true, true, false, false]);
        assert_eq!(holds([Ok(answer()), none(), other()]), [true, true, false]);
        assert_eq!(holds([Ok(answer()), none(), Ok(answer()), none(), none()]), [true, true, true, true, false]);
        // A failure between them says neither yes nor no.
        assert_eq!(holds([Ok(answer()), none(), failed(), none()]), [true, true, true, false]);
    }

    #[test]
    fn what_is_not_asked_again_is_forgotten() {
        let mut memory = Memory::default();
        memory.learn(question(), Ok(answer()));
        memory.begin();
        memory.begin();
        assert_eq!(memory.learn(question(), Err(Trouble::NoName)).answer, None);
    }
}
