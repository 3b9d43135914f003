"""What runs beside a training: records, tables, files."""
