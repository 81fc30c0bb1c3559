//! The layers of [`cnncodes_convolution`] as an operator of ONNX Runtime, which runs them on the session's own threads.

use std::sync::Arc;

use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput,
    ShapeInferenceContext,
};
use ort::value::{Shape, TensorElementType, ValueType};

use cnncodes_convolution::{LayerOp, Parallel, Scratch};

/// The domain of the operator.
pub(super) const DOMAIN: &str = "cnncodes";
/// Its name.
pub(super) const OPERATOR: &str = "Layer";
/// The attribute that says which of the ops a node is.
pub(super) const LAYER: &str = "layer";

/// Makes the operator for a session of so many threads.
///
/// # Errors
/// The runtime takes no operators.
pub(super) fn domain(ops: Arc<[LayerOp]>, threads: usize) -> ort::Result<OperatorDomain> {
    let layer = LayerOperator { ops, scratch: Arc::default(), threads };
    OperatorDomain::new(DOMAIN)?.add(layer)
}

/// One operator for all nodes: each has the number of its layer as an attribute.
struct LayerOperator {
    ops: Arc<[LayerOp]>,
    scratch: Arc<Scratch>,
    threads: usize,
}

impl LayerOperator {
    fn index(&self, index: Option<i64>) -> ort::Result<usize> {
        let index = index.and_then(|index| usize::try_from(index).ok());
        index
            .filter(|&index| index < self.ops.len())
            .ok_or_else(|| ort::Error::new("a node without its layer"))
    }
}

impl Operator for LayerOperator {
    type Kernel<'attr> = LayerKernel;

    fn name(&self) -> &str {
        OPERATOR
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [
            OperatorInput::required(TensorElementType::Float32),
            OperatorInput::optional(TensorElementType::Float32),
        ]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<LayerKernel> {
        let index = self.index(context.get(LAYER))?;
        Ok(LayerKernel { ops: self.ops.clone(), index, scratch: self.scratch.clone(), threads: self.threads })
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        let op = &self.ops[self.index(context.attr::<i64>(LAYER).ok())?];
        let inputs = context.inputs();
        let Some(ValueType::Tensor { ty, shape, dimension_symbols }) = inputs.first() else { return Ok(()) };
        // The number of images may be open; the rest decides the rest.
        let known: Option<Vec<usize>> =
            shape.get(1..).unwrap_or_default().iter().map(|&dim| usize::try_from(dim).ok()).collect();
        let (Some(known), Some(&images)) = (known, shape.first()) else { return Ok(()) };
        let mut with_one = vec![1];
        with_one.extend(known);
        let output = op.output(&with_one).map_err(ort::Error::wrap)?;
        let mut output: Vec<i64> = output.into_iter().map(|dim| dim as i64).collect();
        output[0] = images;
        let mut symbols = vec![String::new(); output.len()];
        symbols[0] = dimension_symbols.first().cloned().unwrap_or_default();
        let output = ValueType::Tensor {
            ty: *ty,
            shape: Shape::new(output),
            dimension_symbols: ort::value::SymbolicDimensions::new(symbols),
        };
        context.set_output(0, &output)
    }
}

/// One node.
struct LayerKernel {
    ops: Arc<[LayerOp]>,
    index: usize,
    scratch: Arc<Scratch>,
    threads: usize,
}

impl Kernel for LayerKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let op = &self.ops[self.index];
        let first = context.input(0)?.ok_or_else(|| ort::Error::new("a layer without its input"))?;
        let second = if context.num_inputs()? > 1 { context.input(1)? } else { None };
        let (shape, numbers) = first.try_extract_tensor::<f32>()?;
        let shape = dims(shape);
        let second = second.as_ref().map(|second| second.try_extract_tensor::<f32>()).transpose()?;
        let second = second.map(|(shape, numbers)| (numbers, dims(shape)));
        let of_output = op.output(&shape).map_err(ort::Error::wrap)?;
        let mut output = context
            .output(0, of_output.iter().map(|&dim| dim as i64).collect::<Vec<_>>())?
            .ok_or_else(|| ort::Error::new("a layer without its output"))?;
        let (_, out) = output.try_extract_tensor_mut::<f32>()?;
        let second = second.as_ref().map(|(numbers, shape)| (*numbers, &shape[..]));
        let threads = SessionThreads { context, count: self.threads };
        op.run((numbers, &shape), second, out, &self.scratch, &threads).map_err(ort::Error::wrap)
    }
}

fn dims(shape: &Shape) -> Vec<usize> {
    shape.iter().map(|&dim| dim.max(0) as usize).collect()
}

/// The threads of the session.
struct SessionThreads<'a> {
    context: &'a ComputeContext,
    count: usize,
}

impl Parallel for SessionThreads<'_> {
    fn threads(&self) -> usize {
        self.count
    }

    fn for_each(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        if self.count == 1 || count < 2 || self.context.par_for(count, count, task).is_err() {
            (0..count).for_each(task);
        }
    }
}
