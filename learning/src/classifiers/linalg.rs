//! The little linear algebra that the linear models need: symmetric matrices of columns by columns, row by row in memory.

use super::ModelError;
use super::stop::Stop;

/// Sweeps of the Jacobi rotations; seven or eight suffice for any matrix that fits into memory.
const SWEEPS_MAX: usize = 64;

/// Σ a b, in four sums that do not wait for each other.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (fours_a, rest_a) = a.as_chunks::<4>();
    let (fours_b, rest_b) = b.as_chunks::<4>();
    let mut sums = [0.0; 4];
    for (x, y) in fours_a.iter().zip(fours_b) {
        for (sum, (x, y)) in sums.iter_mut().zip(x.iter().zip(y)) {
            *sum += x * y;
        }
    }
    let rest: f64 = rest_a.iter().zip(rest_b).map(|(x, y)| x * y).sum();
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

/// Square of the Euclidean distance.
pub(super) fn square_distance(a: &[f64], b: &[f64]) -> f64 {
    let (fours_a, rest_a) = a.as_chunks::<4>();
    let (fours_b, rest_b) = b.as_chunks::<4>();
    let mut sums = [0.0; 4];
    for (x, y) in fours_a.iter().zip(fours_b) {
        for (sum, (x, y)) in sums.iter_mut().zip(x.iter().zip(y)) {
            *sum += (x - y) * (x - y);
        }
    }
    let rest: f64 = rest_a.iter().zip(rest_b).map(|(x, y)| (x - y) * (x - y)).sum();
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

/// Eigenvalues and eigenvectors of a symmetric matrix.
pub(super) struct Eigen {
    pub values: Vec<f64>,
    /// Vector i is row i: of length 1, orthogonal to the others.
    pub vectors: Vec<f64>,
}

/// By cyclic Jacobi rotations (Golub and Van Loan, "Matrix Computations", section 8.5): slow for thousands of columns, accurate for
/// the smallest eigenvalues.
pub(super) fn eigen(mut matrix: Vec<f64>, size: usize, stop: &Stop) -> Result<Eigen, ModelError> {
    let mut vectors = vec![0.0; size * size];
    for at in 0..size {
        vectors[at * size + at] = 1.0;
    }
    for _ in 0..SWEEPS_MAX {
        let diagonal: f64 = (0..size).map(|at| matrix[at * size + at].powi(2)).sum();
        let total: f64 = matrix.iter().map(|value| value * value).sum();
        if total - diagonal <= 1e-30 * total {
            break;
        }
        for p in 0..size {
            stop.check()?;
            for q in p + 1..size {
                rotate(&mut matrix, &mut vectors, size, p, q);
            }
        }
    }
    Ok(Eigen { values: (0..size).map(|at| matrix[at * size + at]).collect(), vectors })
}

/// One rotation in the plane of p and q, which makes their common entry 0.
fn rotate(matrix: &mut [f64], vectors: &mut [f64], size: usize, p: usize, q: usize) {
    let common = matrix[p * size + q];
    if common == 0.0 {
        return;
    }
    let theta = (matrix[q * size + q] - matrix[p * size + p]) / (2.0 * common);
    let tangent = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let cosine = 1.0 / (tangent * tangent + 1.0).sqrt();
    let sine = tangent * cosine;
    for at in 0..size {
        let (a, b) = (matrix[at * size + p], matrix[at * size + q]);
        matrix[at * size + p] = cosine * a - sine * b;
        matrix[at * size + q] = sine * a + cosine * b;
    }
    let turn = |values: &mut [f64]| {
        for at in 0..size {
            let (a, b) = (values[p * size + at], values[q * size + at]);
            values[p * size + at] = cosine * a - sine * b;
            values[q * size + at] = sine * a + cosine * b;
        }
    };
    turn(matrix);
    turn(vectors);
}

/// Adds `weight` times the outer product of `row` with itself to the upper half of `matrix`.
pub(super) fn add_outer(matrix: &mut [f64], row: &[f64], weight: f64) {
    let size = row.len();
    for (at, value) in row.iter().enumerate() {
        let scaled = value * weight;
        for (to, other) in matrix[at * size + at..(at + 1) * size].iter_mut().zip(&row[at..]) {
            *to += scaled * other;
        }
    }
}

/// Copies the upper half of a square matrix to its lower half.
pub(super) fn mirror(matrix: &mut [f64], size: usize) {
    for row in 1..size {
        for column in 0..row {
            matrix[row * size + column] = matrix[column * size + row];
        }
    }
}
