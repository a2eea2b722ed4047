//! A column of whole numbers in as few bytes as the largest needs.

/// Numbers by position.
#[derive(Debug)]
pub enum Numbers {
    /// All are the same.
    One(i64),
    Short(Vec<i16>),
    Int(Vec<i32>),
    Long(Vec<i64>),
}

impl Numbers {
    pub fn of(numbers: Vec<i64>) -> Self {
        let (min, max) = numbers.iter().fold((i64::MAX, i64::MIN), |(min, max), n| (min.min(*n), max.max(*n)));
        if min >= max {
            return Self::One(numbers.first().copied().unwrap_or(0));
        }
        let fits = |low: i64, high: i64| min >= low && max <= high;
        if fits(i16::MIN.into(), i16::MAX.into()) {
            Self::Short(numbers.iter().map(|n| *n as i16).collect())
        } else if fits(i32::MIN.into(), i32::MAX.into()) {
            Self::Int(numbers.iter().map(|n| *n as i32).collect())
        } else {
            Self::Long(numbers)
        }
    }

    #[inline]
    pub fn at(&self, index: usize) -> i64 {
        match self {
            Self::One(number) => *number,
            Self::Short(numbers) => numbers[index].into(),
            Self::Int(numbers) => numbers[index].into(),
            Self::Long(numbers) => numbers[index],
        }
    }

    pub fn bytes(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Short(numbers) => numbers.len() * 2,
            Self::Int(numbers) => numbers.len() * 4,
            Self::Long(numbers) => numbers.len() * 8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Numbers;

    #[test]
    fn numbers_come_back_from_as_few_bytes_as_they_need() {
        let cases: [(&[i64], usize); 6] = [
            (&[], 0),
            (&[7, 7, 7], 0),
            (&[0, i16::MIN as i64], 2),
            (&[0, i16::MAX as i64 + 1], 4),
            (&[i32::MIN as i64, 0], 4),
            (&[i64::MIN, i64::MAX], 8),
        ];
        for (numbers, each) in cases {
            let column = Numbers::of(numbers.to_vec());
            assert_eq!(column.bytes(), each * numbers.len(), "{numbers:?}");
            assert!((0..numbers.len()).all(|at| column.at(at) == numbers[at]), "{numbers:?}");
        }
    }
}
