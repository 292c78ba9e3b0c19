mod blame;
mod translate;
