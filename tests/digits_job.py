"""Flags of a short training on the digits."""

JOB = [
    "--flagfile=configs/digits_fr.cfg", "--epochs=2", "--batch_size=300",
    "--steps_per_execution=4", "--learning_rate_drops=1", "--num_modules=2",
]
