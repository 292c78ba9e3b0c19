mod translate;
