//! `bank-N.safetensors`: arrays without code. Every length is checked.

use std::collections::HashMap;

use half::f16;
use ndarray::{Array1, Array2, Array3};
use posfar::pca::Pca;
use posfar::{Bank, BankParts, Parameters, TokenPlace};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::damaged;
use crate::error::{Error, ErrorKind, Result};

/// Reads a bank.
///
/// # Errors
/// [`ErrorKind::Package`] if an array is missing or has a wrong type or shape, [`ErrorKind::NotFinite`] if
/// one holds NaN or infinity.
pub fn bank_from_bytes(bytes: &[u8], parameters: &Parameters) -> Result<Bank> {
    let tensors = SafeTensors::deserialize(bytes)
        .map_err(|e| damaged("not a safetensors file, or a damaged one".into()).with_source(e))?;
    let reader = Reader { tensors };
    let (image, row, col) = (
        reader.values("image", u32::from_le_bytes)?,
        reader.values("row", u16::from_le_bytes)?,
        reader.values("col", u16::from_le_bytes)?,
    );
    if image.len() != row.len() || image.len() != col.len() {
        return Err(damaged("image, row and col have different lengths".into()));
    }
    let places = image
        .into_iter()
        .zip(row)
        .zip(col)
        .map(|((image, row), col)| TokenPlace { image, row, col })
        .collect();
    let scale = reader.values("feature_scale", f32::from_le_bytes)?;
    let &[feature_scale] = scale.as_slice() else {
        return Err(damaged("feature_scale must hold one value".into()));
    };
    Ok(Bank::from_parts(BankParts {
        parameters: parameters.clone(),
        feature_scale,
        tokens: reader.matrix("tokens", f16::from_le_bytes)?,
        places,
        pca: reader.pca("pca")?,
        retrieval_pca: reader.pca("retrieval_pca")?,
        descriptors: {
            let shape: [usize; 3] = reader.shape("descriptors")?;
            let values = reader.values("descriptors", f16::from_le_bytes)?;
            let values = values.into_iter().map(f16::to_f32).collect();
            Array3::from_shape_vec(shape, values).map_err(|e| misshapen("descriptors", e))?
        },
    })?)
}

/// Writes a bank. Read again, it gives the same residuals to the last bit.
///
/// # Errors
/// [`ErrorKind::Package`] if the format cannot hold the arrays.
pub fn bytes_from_bank(bank: &Bank) -> Result<Vec<u8>> {
    let parts = bank.parts();
    let mut arrays: HashMap<String, (Dtype, Vec<usize>, Vec<u8>)> = HashMap::new();
    let mut add = |name: &str, dtype, shape: &[usize], bytes: Vec<u8>| {
        arrays.insert(name.to_owned(), (dtype, shape.to_vec(), bytes));
    };
    let count = parts.places.len();
    add("tokens", Dtype::F16, parts.tokens.shape(), bytes_of(&parts.tokens, |v: f16| v.to_le_bytes()));
    add("image", Dtype::U32, &[count], bytes_of(parts.places.iter().map(|p| &p.image), u32::to_le_bytes));
    add("row", Dtype::U16, &[count], bytes_of(parts.places.iter().map(|p| &p.row), u16::to_le_bytes));
    add("col", Dtype::U16, &[count], bytes_of(parts.places.iter().map(|p| &p.col), u16::to_le_bytes));
    add("feature_scale", Dtype::F32, &[1], parts.feature_scale.to_le_bytes().to_vec());
    for (name, pca) in [("pca", &parts.pca), ("retrieval_pca", &parts.retrieval_pca)] {
        add(&format!("{name}.mean"), Dtype::F32, pca.mean.shape(), bytes_of(&pca.mean, f32::to_le_bytes));
        let components = &pca.components;
        add(
            &format!("{name}.components"),
            Dtype::F32,
            components.shape(),
            bytes_of(components, f32::to_le_bytes),
        );
    }
    let descriptors = &parts.descriptors;
    add(
        "descriptors",
        Dtype::F16,
        descriptors.shape(),
        bytes_of(descriptors, |v| f16::from_f32(v).to_le_bytes()),
    );
    let views: Vec<(&str, TensorView)> = arrays
        .iter()
        .map(|(name, (dtype, shape, bytes))| {
            let view = TensorView::new(*dtype, shape.clone(), bytes)
                .map_err(|e| damaged(format!("cannot store {name}")).with_source(e))?;
            Ok((name.as_str(), view))
        })
        .collect::<Result<_>>()?;
    safetensors::serialize(views, None).map_err(|e| damaged("cannot store the bank".into()).with_source(e))
}

fn bytes_of<'a, T: Copy + 'a, const N: usize>(
    values: impl IntoIterator<Item = &'a T>,
    to_bytes: impl Fn(T) -> [u8; N],
) -> Vec<u8> {
    values.into_iter().flat_map(|&v| to_bytes(v)).collect()
}

struct Reader<'a> {
    tensors: SafeTensors<'a>,
}

/// Numbers in a bank, with safetensors' name of their type.
trait Element {
    const DTYPE: Dtype;
}
impl Element for f16 {
    const DTYPE: Dtype = Dtype::F16;
}
impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;
}
impl Element for u32 {
    const DTYPE: Dtype = Dtype::U32;
}
impl Element for u16 {
    const DTYPE: Dtype = Dtype::U16;
}

impl<'a> Reader<'a> {
    fn tensor(&self, name: &str) -> Result<TensorView<'a>> {
        self.tensors.tensor(name).map_err(|e| damaged(format!("{name} is missing")).with_source(e))
    }

    fn values<T: Element, const N: usize>(&self, name: &str, from: impl Fn([u8; N]) -> T) -> Result<Vec<T>> {
        let tensor = self.tensor(name)?;
        if tensor.dtype() != T::DTYPE {
            return Err(damaged(format!("{name} holds {:?} instead of {:?}", tensor.dtype(), T::DTYPE)));
        }
        let (chunks, _) = tensor.data().as_chunks::<N>();
        Ok(chunks.iter().map(|&bytes| from(bytes)).collect())
    }

    fn shape<const D: usize>(&self, name: &str) -> Result<[usize; D]> {
        let tensor = self.tensor(name)?;
        <[usize; D]>::try_from(tensor.shape())
            .map_err(|_| damaged(format!("{name} must have {D} dimensions, not {}", tensor.shape().len())))
    }

    fn matrix<T: Element, const N: usize>(
        &self,
        name: &str,
        from: impl Fn([u8; N]) -> T,
    ) -> Result<Array2<T>> {
        let shape: [usize; 2] = self.shape(name)?;
        Array2::from_shape_vec(shape, self.values(name, from)?).map_err(|e| misshapen(name, e))
    }

    fn pca(&self, name: &str) -> Result<Pca> {
        let mean = Array1::from_vec(self.values(&format!("{name}.mean"), f32::from_le_bytes)?);
        Ok(Pca { mean, components: self.matrix(&format!("{name}.components"), f32::from_le_bytes)? })
    }
}

fn misshapen(name: &str, e: ndarray::ShapeError) -> Error {
    damaged(format!("the shape of {name} does not fit its length")).with_source(e)
}

/// Maps each kind; the error of a token storage comes back as it was.
impl From<posfar::Error> for Error {
    fn from(error: posfar::Error) -> Self {
        let kind = match error {
            posfar::Error::Storage(cause) => {
                return match cause.downcast::<Error>() {
                    Ok(own) => *own,
                    Err(cause) => Error::new(ErrorKind::Io, "the token storage failed").with_source(cause),
                };
            }
            posfar::Error::ShapeMismatch(_) => ErrorKind::Model,
            posfar::Error::InvalidBank(_) => ErrorKind::Package,
            posfar::Error::NotFinite(_) => ErrorKind::NotFinite,
            _ => ErrorKind::Usage,
        };
        Error::new(kind, error.to_string())
    }
}
