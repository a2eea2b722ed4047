//! The constants of re-ranking: three profiles, and what is put over them.
//!
//! The service that these rules come from was described three times, and the descriptions disagree. `code` is what ran. The other two
//! are what its documents say; a constant of a rule that a document names without giving it is that of `code`, and a rule that it does not
//! name is off. Penalties of diversity add up over the rounds in `code` alone.

/// A set of constants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    #[default]
    Code,
    Readme,
    SystemDoc,
}

impl Profile {
    pub const ALL: [Self; 3] = [Self::Code, Self::Readme, Self::SystemDoc];

    pub fn word(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Readme => "readme",
            Self::SystemDoc => "system_doc",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.word() == word)
    }

    pub fn constants(self) -> Constants {
        let code = Constants {
            boost_per_event: 0.08,
            boost_max: 0.4,
            recent_top5: 0.2,
            recent_top10: 0.4,
            recent_rest: 0.6,
            diversity_share: 0.25,
            diversity_factor: 0.7,
            category_max: Some(4),
            category_factor: 0.5,
            diversity_rounds: 3,
            cumulative: true,
            popularity_floor: 5,
            popularity_factor: 0.9,
        };
        match self {
            Self::Code => code,
            Self::Readme => Constants {
                boost_per_event: 0.05,
                boost_max: 0.2,
                diversity_share: 0.4,
                diversity_factor: 0.85,
                category_max: None,
                cumulative: false,
                ..code
            }
            .recent_all(0.7),
            Self::SystemDoc => {
                Constants { boost_per_event: 0.2, boost_max: 0.2, category_factor: 0.7, cumulative: false, ..code }.recent_all(0.5)
            }
        }
    }
}

/// Every number of the rules; see the module above for what each does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Constants {
    pub boost_per_event: f64,
    pub boost_max: f64,
    pub recent_top5: f64,
    pub recent_top10: f64,
    pub recent_rest: f64,
    /// 0..1.
    pub diversity_share: f64,
    pub diversity_factor: f64,
    /// Absent: categories have no limit.
    pub category_max: Option<u32>,
    pub category_factor: f64,
    pub diversity_rounds: u32,
    pub cumulative: bool,
    pub popularity_floor: u32,
    pub popularity_factor: f64,
}

impl Constants {
    fn recent_all(self, factor: f64) -> Self {
        Self { recent_top5: factor, recent_top10: factor, recent_rest: factor, ..self }
    }

    /// The factor of a recent item by its place, and the word of the rule.
    pub(super) fn recent(&self, place: usize) -> (f64, &'static str) {
        let factors = [self.recent_top5, self.recent_top10, self.recent_rest];
        let words = ["recent_penalty_top5", "recent_penalty_top10", "recent_penalty"];
        let tier = (place / 5).min(2);
        let is_one = factors.iter().all(|factor| *factor == factors[0]);
        (factors[tier], words[if is_one { 2 } else { tier }])
    }

    pub fn with(self, over: &Overrides) -> Self {
        Self {
            boost_per_event: over.boost_per_event.unwrap_or(self.boost_per_event),
            boost_max: over.boost_max.unwrap_or(self.boost_max),
            recent_top5: over.recent_top5.unwrap_or(self.recent_top5),
            recent_top10: over.recent_top10.unwrap_or(self.recent_top10),
            recent_rest: over.recent_rest.unwrap_or(self.recent_rest),
            diversity_share: over.diversity_share.unwrap_or(self.diversity_share),
            diversity_factor: over.diversity_factor.unwrap_or(self.diversity_factor),
            category_max: over.category_max.or(self.category_max),
            category_factor: over.category_factor.unwrap_or(self.category_factor),
            diversity_rounds: over.diversity_rounds.unwrap_or(self.diversity_rounds),
            cumulative: over.cumulative.unwrap_or(self.cumulative),
            popularity_floor: over.popularity_floor.unwrap_or(self.popularity_floor),
            popularity_factor: over.popularity_factor.unwrap_or(self.popularity_factor),
        }
    }
}

/// Constants that win over those of a profile.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overrides {
    pub boost_per_event: Option<f64>,
    pub boost_max: Option<f64>,
    pub recent_top5: Option<f64>,
    pub recent_top10: Option<f64>,
    pub recent_rest: Option<f64>,
    pub diversity_share: Option<f64>,
    pub diversity_factor: Option<f64>,
    pub category_max: Option<u32>,
    pub category_factor: Option<f64>,
    pub diversity_rounds: Option<u32>,
    pub cumulative: Option<bool>,
    pub popularity_floor: Option<u32>,
    pub popularity_factor: Option<f64>,
}

/// How requests are answered that do not say otherwise.
#[derive(Clone, Debug)]
pub struct RerankConfig {
    pub profile: Profile,
    pub top_n: usize,
    /// Most candidates of one request.
    pub candidates_max: usize,
    pub overrides: Overrides,
}

impl Default for RerankConfig {
    fn default() -> Self {
        Self { profile: Profile::Code, top_n: 20, candidates_max: 10_000, overrides: Overrides::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_have_words() {
        for profile in Profile::ALL {
            assert_eq!(Profile::from_word(profile.word()), Some(profile));
        }
        assert_eq!(Profile::from_word("Code"), None);
    }

    /// Every number of the documentation's table, as it is printed there.
    fn documented(constants: &Constants) -> [String; 13] {
        [
            constants.boost_per_event.to_string(),
            constants.boost_max.to_string(),
            constants.recent_top5.to_string(),
            constants.recent_top10.to_string(),
            constants.recent_rest.to_string(),
            constants.diversity_share.to_string(),
            constants.diversity_factor.to_string(),
            constants.category_max.map_or_else(|| "no limit".to_owned(), |max| max.to_string()),
            constants.category_factor.to_string(),
            constants.diversity_rounds.to_string(),
            constants.cumulative.to_string(),
            constants.popularity_floor.to_string(),
            constants.popularity_factor.to_string(),
        ]
    }

    #[test]
    fn the_table_of_the_documentation_is_that_of_the_code() {
        let page = include_str!("../../docs/interactions.md");
        let (_, table) = page.split_once("| constant | `code` | `readme` | `system_doc` |\n|---|---|---|---|\n").expect("the table");
        let rows: Vec<Vec<&str>> =
            table.lines().map_while(|line| Some(line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect())).collect();
        assert_eq!(rows.len(), 13);
        for (column, profile) in Profile::ALL.into_iter().enumerate() {
            let written: Vec<&str> = rows.iter().map(|row| row[column + 1]).collect();
            assert_eq!(written, documented(&profile.constants()), "{}", profile.word());
        }
    }

    #[test]
    fn what_is_set_wins_over_the_profile_and_nothing_else_moves() {
        for profile in Profile::ALL {
            assert_eq!(profile.constants().with(&Overrides::default()), profile.constants());
        }
        let over = Overrides { category_max: Some(9), cumulative: Some(true), boost_max: Some(0.0), ..Overrides::default() };
        let expected = Constants { category_max: Some(9), cumulative: true, boost_max: 0.0, ..Profile::Readme.constants() };
        assert_eq!(Profile::Readme.constants().with(&over), expected);
    }
}
